// Selects the current user four times, more than an expiry apart, with Drizzle on a node-postgres pool.
const { readFileSync } = require("node:fs");
const { setTimeout } = require("node:timers/promises");
const { drizzle } = require("drizzle-orm/node-postgres");
const { sql } = require("drizzle-orm");
const { Pool } = require("pg");
const { password } = require(process.argv[2]);

async function main() {
  const ssl = { ca: readFileSync(process.env.SSL_CERT_FILE) };
  const pool = new Pool({ password, ssl, max: 1, idleTimeoutMillis: 1 });
  const database = drizzle(pool);
  for (let n = 0; n < 4; n++) {
    if (n > 0) await setTimeout(2100);
    const { rows } = await database.execute(sql`select current_user as role`);
    console.log(rows[0].role);
  }
  await pool.end();
}

main().catch((error) => {
  console.error(error.cause?.message ?? error.message);
  process.exit(1);
});
