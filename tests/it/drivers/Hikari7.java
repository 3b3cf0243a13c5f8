// Selects the current user four times, more than an expiry apart, in one HikariCP pool whose credentials provider asks.
import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import java.sql.Connection;
import java.sql.ResultSet;

public class Hikari7 {
    public static void main(String[] arguments) throws Exception {
        HikariConfig config = new HikariConfig();
        config.setJdbcUrl("jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT")
            + "/" + System.getenv("PGDATABASE") + "?sslmode=require");
        config.setCredentialsProvider(new LakebaseCredentials(System.getenv("PGUSER")));
        config.setMaximumPoolSize(1);
        try (HikariDataSource pool = new HikariDataSource(config)) {
            for (int n = 0; n < 4; n++) {
                if (n > 0) Thread.sleep(2100);
                try (Connection connection = pool.getConnection()) {
                    ResultSet result = connection.createStatement().executeQuery("select current_user");
                    result.next();
                    System.out.println(result.getString(1));
                    pool.evictConnection(connection);
                }
            }
        }
    }
}
