// Starts the MCP server of the command line, asks it for the current user, and prints the answer.
const { spawn } = require("node:child_process");
const [program, ...words] = process.argv.slice(2);
const server = spawn(program, words, { stdio: ["pipe", "pipe", "inherit"] });
const send = (message) => server.stdin.write(JSON.stringify({ jsonrpc: "2.0", ...message }) + "\n");
const sql = "select current_user as role";

let text = "";
server.stdout.on("data", (data) => {
  text += data;
  const lines = text.split("\n");
  text = lines.pop();
  for (const line of lines) {
    const answer = JSON.parse(line);
    if (answer.id === 1) {
      send({ method: "notifications/initialized" });
      send({ id: 2, method: "tools/call", params: { name: "execute_sql", arguments: { sql } } });
    } else if (answer.id === 2) {
      console.log(JSON.stringify(answer.result));
      server.kill();
      process.exit(0);
    }
  }
});
server.on("exit", (code) => process.exit(code ?? 1));
const clientInfo = { name: "test", version: "1" };
send({ id: 1, method: "initialize", params: { protocolVersion: "2024-11-05", capabilities: {}, clientInfo } });
