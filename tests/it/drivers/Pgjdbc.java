// Selects the current user in four pgjdbc connections, more than an expiry apart.
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;

public class Pgjdbc {
    public static void main(String[] arguments) throws Exception {
        String url = arguments.length > 0 ? arguments[0] : "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT")
            + "/" + System.getenv("PGDATABASE") + "?user=" + System.getenv("PGUSER")
            + "&sslmode=require&authenticationPluginClassName=LakebasePassword";
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
