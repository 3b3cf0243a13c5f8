// Package lakebase has pgx ask for a fresh Lakebase password for each new connection:
//
//	config, err := pgxpool.ParseConfig("")
//	config.BeforeConnect = lakebase.BeforeConnect
//	pool, err := pgxpool.NewWithConfig(ctx, config)
package lakebase

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"github.com/jackc/pgx/v5"
)

// BeforeConnect sets a password that is good for ten minutes at least; lakebase-token caches it.
func BeforeConnect(ctx context.Context, config *pgx.ConnConfig) error {
	password, err := exec.CommandContext(ctx, "lakebase-token").Output()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(failed.Stderr)))
	}
	config.Password = strings.TrimSpace(string(password))
	return err
}
