// drizzle-kit reads the URL from its environment.
module.exports = {
  dialect: "postgresql",
  schema: "./drizzle-schema.js",
  dbCredentials: { url: process.env.DATABASE_URL },
};
