// A fresh Lakebase password for each new connection of HikariCP 7:
//
//     config.setCredentialsProvider(new LakebaseCredentials("ROLE"));
//
// If lakebase-token fails, connecting fails with its error message.
import com.zaxxer.hikari.HikariCredentialsProvider;
import com.zaxxer.hikari.util.Credentials;
import org.postgresql.util.PSQLException;

public class LakebaseCredentials implements HikariCredentialsProvider {
    private final String role;

    public LakebaseCredentials(String role) {
        this.role = role;
    }

    @Override
    public Credentials getCredentials() {
        try {
            return new Credentials(role, new String(new LakebasePassword().getPassword(null)));
        } catch (PSQLException e) {
            throw new IllegalStateException(e.getMessage(), e);
        }
    }
}
