// Package lakebase sets a fresh Lakebase password for each new connection of pgx:
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

// BeforeConnect sets a password that is valid for at least ten minutes (one while the workspace is unreachable).
// lakebase-token caches it.
func BeforeConnect(ctx context.Context, config *pgx.ConnConfig) error {
	password, err := exec.CommandContext(ctx, "lakebase-token").Output()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(failed.Stderr)))
	}
	if err != nil {
		return err
	}

	config.Password = strings.TrimSpace(string(password))
	return nil
}
