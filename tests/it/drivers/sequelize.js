// Selects the current user four times, more than an expiry apart, with Sequelize 6.
const { readFileSync } = require("node:fs");
const { setTimeout } = require("node:timers/promises");
const { Sequelize } = require("sequelize");
const { password } = require(process.argv[2]);

async function main() {
  const ssl = { ca: readFileSync(process.env.SSL_CERT_FILE) };
  const { PGHOST: host, PGPORT: port, PGUSER: username, PGDATABASE: database } = process.env;
  const sequelize = new Sequelize({
    dialect: "postgres", host, port, username, database, logging: false,
    dialectOptions: { ssl }, pool: { max: 1, idle: 1, evict: 100 },
    hooks: { beforeConnect: async (config) => { config.password = await password(); } },
  });
  for (let n = 0; n < 4; n++) {
    if (n > 0) await setTimeout(2100);
    const [rows] = await sequelize.query("select current_user as role");
    console.log(rows[0].role);
  }
  await sequelize.close();
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
