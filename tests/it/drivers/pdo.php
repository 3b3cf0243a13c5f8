<?php
// Selects the current user in four PDO connections, more than an expiry apart. libpq reads the password file.
for ($n = 0; $n < 4; $n++) {
    if ($n > 0) {
        usleep(2100000);
    }
    $host = getenv('PGHOST');
    $port = getenv('PGPORT');
    $name = getenv('PGDATABASE');
    $connection = new PDO("pgsql:host=$host;port=$port;dbname=$name;sslmode=require", getenv('PGUSER'));
    echo $connection->query('select current_user')->fetchColumn(), "\n";
    $connection = null;
}
