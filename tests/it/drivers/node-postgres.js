// Selects the current user four times, more than an expiry apart, in a node-postgres pool.
const { readFileSync } = require("node:fs");
const { setTimeout } = require("node:timers/promises");
const { Pool } = require("pg");
const { password } = require(process.argv[2]);

async function main() {
  const ssl = { ca: readFileSync(process.env.SSL_CERT_FILE) };
  const pool = new Pool({ password, ssl, max: 1, idleTimeoutMillis: 1 });
  for (let n = 0; n < 4; n++) {
    if (n > 0) await setTimeout(2100);
    const { rows } = await pool.query("select current_user as role");
    console.log(rows[0].role);
  }
  await pool.end();
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
