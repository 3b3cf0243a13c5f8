// Selects the current user four times, more than an expiry apart, with postgres.js.
const { readFileSync } = require("node:fs");
const { setTimeout } = require("node:timers/promises");
const postgres = require("postgres");
const { password } = require(process.argv[2]);

async function main() {
  const ssl = { ca: readFileSync(process.env.SSL_CERT_FILE) };
  const sql = postgres({ password, ssl, max: 1, idle_timeout: 1 });
  for (let n = 0; n < 4; n++) {
    if (n > 0) await setTimeout(2100);
    const [row] = await sql`select current_user as role`;
    console.log(row.role);
  }
  await sql.end();
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
