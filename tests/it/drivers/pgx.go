// Asks pools of pgx who they are, four times, an expiry apart.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"tried/lakebase"
)

func main() {
	for n := 0; n < 4; n++ {
		if n > 0 {
			time.Sleep(2100 * time.Millisecond)
		}
		who, err := ask(context.Background())
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(who)
	}
}

func ask(ctx context.Context) (who string, err error) {
	config, err := pgxpool.ParseConfig("")
	if err != nil {
		return "", err
	}
	config.BeforeConnect = lakebase.BeforeConnect
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return "", err
	}
	defer pool.Close()
	err = pool.QueryRow(ctx, "select current_user").Scan(&who)
	return who, err
}
