import java.io.IOException;
import java.nio.charset.StandardCharsets;
import org.postgresql.plugin.AuthenticationPlugin;
import org.postgresql.plugin.AuthenticationRequestType;
import org.postgresql.util.PSQLException;
import org.postgresql.util.PSQLState;

/**
 * A fresh Lakebase password for each new connection of pgjdbc: the property
 * authenticationPluginClassName=LakebasePassword, in the URL or as a data source's property.
 */
public class LakebasePassword implements AuthenticationPlugin {
    @Override
    public char[] getPassword(AuthenticationRequestType type) throws PSQLException {
        try {
            Process asked = new ProcessBuilder("lakebase-token").start();
            asked.getOutputStream().close();
            String password = new String(asked.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
            String words = new String(asked.getErrorStream().readAllBytes(), StandardCharsets.UTF_8);
            if (asked.waitFor() != 0) {
                throw new PSQLException(words.strip(), PSQLState.CONNECTION_REJECTED);
            }
            return password.strip().toCharArray();
        } catch (IOException | InterruptedException e) {
            throw new PSQLException("cannot run lakebase-token", PSQLState.CONNECTION_UNABLE_TO_CONNECT, e);
        }
    }
}
