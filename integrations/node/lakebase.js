// A fresh Lakebase password for each new connection of node-postgres:
//
//     const { Pool } = require("pg");
//     const { password } = require("./lakebase");
//     const pool = new Pool({ password, ssl: { rejectUnauthorized: true } });
//
// node-postgres calls it when the server asks. The event loop goes on meanwhile; what lakebase-token says when
// it fails is in the error that connecting ends with.
const { execFile } = require("node:child_process");
const { promisify } = require("node:util");

const run = promisify(execFile);

exports.password = async () => (await run("lakebase-token")).stdout.trimEnd();
