// The official SDK for Go: asks a workspace for its own user name, with the configuration of its
// environment; TIMES times, five seconds apart. Only requests to the instance metadata service go to the address in METADATA instead.
package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/databricks/databricks-sdk-go/config"
)

type transport struct{ metadata *url.URL }

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host == "169.254.169.254" {
		r = r.Clone(r.Context())
		r.URL.Scheme, r.URL.Host, r.Host = t.metadata.Scheme, t.metadata.Host, t.metadata.Host
	}
	return http.DefaultTransport.RoundTrip(r)
}

func main() {
	if err := ask(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func ask() error {
	metadata, err := url.Parse(os.Getenv("METADATA"))
	if err != nil {
		return err
	}
	c := &config.Config{HTTPTransport: transport{metadata}}
	if err := c.EnsureResolved(); err != nil {
		return err
	}
	times, _ := strconv.Atoi(os.Getenv("TIMES"))
	for n := 0; n < max(times, 1); n++ {
		if n > 0 {
			time.Sleep(5 * time.Second)
		}
		if err := askOnce(c); err != nil {
			return err
		}
	}
	return nil
}

func askOnce(c *config.Config) error {
	// The first request sets the host, if it must be resolved.
	request, _ := http.NewRequest("GET", "https://x/", nil)
	if err := c.Authenticate(request); err != nil {
		return err
	}
	me, err := url.Parse(c.Host + "/api/2.0/preview/scim/v2/Me")
	if err != nil {
		return err
	}
	request.URL, request.Host = me, me.Host
	answer, err := c.HTTPTransport.RoundTrip(request)
	if err != nil {
		return err
	}
	body, _ := io.ReadAll(answer.Body)
	if answer.StatusCode != 200 {
		return fmt.Errorf("%d: %s", answer.StatusCode, body)
	}
	fmt.Println(strings.TrimSpace(string(body)))
	return nil
}
