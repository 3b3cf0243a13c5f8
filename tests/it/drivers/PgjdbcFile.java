// Selects the current user in four pgjdbc connections, more than an expiry apart, without any code: pgjdbc
// reads the password file (org.postgresql.pgpassfile, else PGPASSFILE) for each of them.
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;

public class PgjdbcFile {
    public static void main(String[] arguments) throws Exception {
        String url = "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/"
            + System.getenv("PGDATABASE") + "?user=" + System.getenv("PGUSER") + "&sslmode=require";
        for (int n = 0; n < 4; n++) {
            if (n > 0) Thread.sleep(2100);
            try (Connection connection = DriverManager.getConnection(url)) {
                ResultSet result = connection.createStatement().executeQuery("select current_user");
                result.next();
                System.out.println(result.getString(1));
            }
        }
    }
}
