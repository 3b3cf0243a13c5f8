// Selects the current user four times, more than an expiry apart, with TypeORM.
require("reflect-metadata");
const { readFileSync } = require("node:fs");
const { setTimeout } = require("node:timers/promises");
const { DataSource } = require("typeorm");
const { password } = require(process.argv[2]);

async function main() {
  const ssl = { ca: readFileSync(process.env.SSL_CERT_FILE) };
  const { PGHOST: host, PGPORT: port, PGUSER: username, PGDATABASE: database } = process.env;
  const extra = { max: 1, idleTimeoutMillis: 1 };
  const source = new DataSource({ type: "postgres", host, port: Number(port), username, database, password, ssl, extra });
  await source.initialize();
  for (let n = 0; n < 4; n++) {
    if (n > 0) await setTimeout(2100);
    const [row] = await source.query("select current_user as role");
    console.log(row.role);
  }
  await source.destroy();
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
