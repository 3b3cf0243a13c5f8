// One table, for drizzle-kit to create.
const { pgTable, serial } = require("drizzle-orm/pg-core");
exports.visits = pgTable("visits", { id: serial().primaryKey() });
