// Selects the current user in four pgx pools, more than an expiry apart.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"drivertests/lakebase"
	"github.com/jackc/pgx/v5/pgxpool"
)

func main() {
	for n := 0; n < 4; n++ {
		if n > 0 {
			time.Sleep(2100 * time.Millisecond)
		}
		role, err := currentUser(context.Background())
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(role)
	}
}

func currentUser(ctx context.Context) (role string, err error) {
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

	err = pool.QueryRow(ctx, "select current_user").Scan(&role)
	return role, err
}
