// The official SDK for Go: logs a person in at DATABRICKS_HOST, with a browser that follows each redirection,
// and refreshes the login.
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"

	"github.com/databricks/databricks-sdk-go/credentials/u2m"
	"github.com/databricks/databricks-sdk-go/credentials/u2m/cache"
)

func main() {
	if err := logIn(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func logIn() error {
	workspace, err := u2m.NewBasicWorkspaceOAuthArgument(os.Getenv("DATABRICKS_HOST"))
	if err != nil {
		return err
	}
	login, err := u2m.NewPersistentAuth(
		context.Background(),
		u2m.WithOAuthArgument(workspace),
		u2m.WithTokenCache(cache.NewInMemoryTokenCache()),
		u2m.WithBrowser(func(url string) error {
			go func() {
				page, err := http.Get(url)
				if err == nil {
					page.Body.Close()
				}
			}()
			return nil
		}),
	)
	if err != nil {
		return err
	}
	defer login.Close()
	if err := login.Challenge(); err != nil {
		return err
	}
	first, err := login.Token()
	if err != nil {
		return err
	}
	second, err := login.ForceRefreshToken()
	if err != nil {
		return err
	}
	if first.AccessToken == second.AccessToken {
		return fmt.Errorf("the refresh has brought no other token")
	}
	return nil
}
