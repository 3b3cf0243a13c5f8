// A fresh Lakebase password for each new connection of node-postgres:
//
//     const { Pool } = require("pg");
//     const { password } = require("./lakebase");
//     const pool = new Pool({ password, ssl: { rejectUnauthorized: true } });
//
// node-postgres calls the function when the server asks for a password. The call does not block the event loop.
// If lakebase-token fails, connecting fails with its error message.
const { execFile } = require("node:child_process");
const { promisify } = require("node:util");

const run = promisify(execFile);

exports.password = async () => (await run("lakebase-token")).stdout.trimEnd();
