// Selects the current user four times, more than an expiry apart, with Prisma on its adapter for node-postgres.
const { readFileSync } = require("node:fs");
const { setTimeout } = require("node:timers/promises");
const { PrismaPg } = require("@prisma/adapter-pg");
const { PrismaClient } = require("@prisma/client");
const { password } = require(process.argv[2]);

async function main() {
  const ssl = { ca: readFileSync(process.env.SSL_CERT_FILE) };
  const adapter = new PrismaPg({ password, ssl, max: 1, idleTimeoutMillis: 1 });
  const prisma = new PrismaClient({ adapter });
  for (let n = 0; n < 4; n++) {
    if (n > 0) await setTimeout(2100);
    const [{ role }] = await prisma.$queryRaw`select current_user::text as role`;
    console.log(role);
  }
  await prisma.$disconnect();
}

main().catch((error) => {
  console.error(error.message, error.cause ?? "");
  process.exit(1);
});
