// Logs in with node-postgres again and again until the file $STOP exists; prints the number of logins.
const fs = require("fs");
const { Client } = require("pg");

async function main() {
  let logins = 0;
  while (!fs.existsSync(process.env.STOP)) {
    const client = new Client({ ssl: { ca: fs.readFileSync(process.env.SSL_CERT_FILE) } });
    await client.connect();
    const { rows } = await client.query("select 1 as one");
    if (rows[0].one !== 1) throw new Error("not 1");
    await client.end();
    logins += 1;
  }
  console.log(logins);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
