import java.io.IOException;
import java.nio.charset.StandardCharsets;
import org.postgresql.plugin.AuthenticationPlugin;
import org.postgresql.plugin.AuthenticationRequestType;
import org.postgresql.util.PSQLException;
import org.postgresql.util.PSQLState;

/**
 * Gets a fresh Lakebase password for each new connection of pgjdbc. To use it, set the property
 * authenticationPluginClassName=LakebasePassword in the URL or on the data source.
 */
public class LakebasePassword implements AuthenticationPlugin {
    @Override
    public char[] getPassword(AuthenticationRequestType type) throws PSQLException {
        try {
            Process helper = new ProcessBuilder("lakebase-token").start();
            helper.getOutputStream().close();
            String password = new String(helper.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
            String message = new String(helper.getErrorStream().readAllBytes(), StandardCharsets.UTF_8);

            if (helper.waitFor() != 0) {
                throw new PSQLException(message.strip(), PSQLState.CONNECTION_REJECTED);
            }
            return password.strip().toCharArray();
        } catch (IOException | InterruptedException e) {
            throw new PSQLException("cannot run lakebase-token", PSQLState.CONNECTION_UNABLE_TO_CONNECT, e);
        }
    }
}
