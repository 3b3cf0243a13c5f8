# Selects the current user in four connections of Rails' Active Record, more than an expiry apart. libpq reads the
# password file.
require "active_record"

ActiveRecord::Base.establish_connection(
  adapter: "postgresql",
  host: ENV["PGHOST"],
  port: ENV["PGPORT"],
  database: ENV["PGDATABASE"],
  username: ENV["PGUSER"],
  sslmode: "require",
)
4.times do |n|
  sleep 2.1 if n > 0
  puts ActiveRecord::Base.connection.select_value("select current_user")
  ActiveRecord::Base.connection_pool.disconnect!
end
