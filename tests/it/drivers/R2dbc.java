// Selects the current user in four R2DBC connections, more than an expiry apart.
import io.r2dbc.postgresql.PostgresqlConnectionConfiguration;
import io.r2dbc.postgresql.PostgresqlConnectionFactory;
import io.r2dbc.postgresql.client.SSLMode;
import org.postgresql.util.PSQLException;
import reactor.core.publisher.Mono;
import reactor.core.scheduler.Schedulers;

public class R2dbc {
    static CharSequence password() throws PSQLException {
        return new String(new LakebasePassword().getPassword(null));
    }

    public static void main(String[] arguments) throws Exception {
        var factory = new PostgresqlConnectionFactory(PostgresqlConnectionConfiguration.builder()
            .host(System.getenv("PGHOST")).port(Integer.parseInt(System.getenv("PGPORT")))
            .database(System.getenv("PGDATABASE")).username(System.getenv("PGUSER")).sslMode(SSLMode.REQUIRE)
            .password(Mono.fromCallable(R2dbc::password).subscribeOn(Schedulers.boundedElastic())).build());
        for (int n = 0; n < 4; n++) {
            if (n > 0) Thread.sleep(2100);
            var role = Mono.usingWhen(factory.create(),
                connection -> Mono.from(connection.createStatement("select current_user").execute())
                    .flatMap(result -> Mono.from(result.map(row -> row.get(0, String.class)))),
                connection -> connection.close()).block();
            System.out.println(role);
        }
        System.exit(0);
    }
}
