// Selects the current user four times, more than an expiry apart, with Knex.
const { readFileSync } = require("node:fs");
const { setTimeout } = require("node:timers/promises");
const knex = require("knex");
const { password } = require(process.argv[2]);

async function main() {
  const ssl = { ca: readFileSync(process.env.SSL_CERT_FILE) };
  const { PGHOST: host, PGPORT: port, PGUSER: user, PGDATABASE: database } = process.env;
  const connection = { host, port, user, database, password, ssl };
  const db = knex({ client: "pg", connection, pool: { min: 0, max: 1, idleTimeoutMillis: 1, reapIntervalMillis: 100 } });
  for (let n = 0; n < 4; n++) {
    if (n > 0) await setTimeout(2100);
    const { rows } = await db.raw("select current_user as role");
    console.log(rows[0].role);
  }
  await db.destroy();
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
