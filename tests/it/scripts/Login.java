// Logs in with pgjdbc again and again until the file $STOP exists; prints the number of logins.
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.util.Properties;

class Login {
    public static void main(String[] arguments) throws Exception {
        String url = "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT")
            + "/" + System.getenv("PGDATABASE");
        Properties properties = new Properties();
        properties.setProperty("user", System.getenv("PGUSER"));
        properties.setProperty("sslmode", "require");

        int logins = 0;
        while (!Files.exists(Path.of(System.getenv("STOP")))) {
            try (Connection connection = DriverManager.getConnection(url, properties)) {
                ResultSet result = connection.createStatement().executeQuery("select 1");
                result.next();
                if (result.getInt(1) != 1) throw new IllegalStateException("not 1");
            }
            logins += 1;
        }
        System.out.println(logins);
    }
}
