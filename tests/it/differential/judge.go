// The official SDK for Go: reads environments from stdin, one JSON object a line, and prints what it
// chooses, one JSON object a line. No request leaves this process: a stub answers all.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/databricks/databricks-sdk-go/config"
)

type environment struct {
	Env  map[string]string `json:"env"`
	Home string            `json:"home"`
	File *string           `json:"file"`
}

type verdict struct {
	Host        string `json:"host"`
	AuthType    string `json:"auth_type"`
	Error       string `json:"error"`
	Values      string `json:"values"`
	Profile     string `json:"profile"`
	WorkspaceID string `json:"workspace_id"`
	// The environment that says without a file what the SDK has read.
	Read map[string]string `json:"read"`
}

func asEnvironment(c *config.Config, env map[string]string) map[string]string {
	said := map[string]string{}
	for name, value := range env {
		said[name] = value
	}
	for _, attribute := range config.ConfigAttributes {
		for _, name := range attribute.EnvVars {
			delete(said, name)
		}
		isFile := attribute.Name == "profile" || attribute.Name == "config_file"
		if len(attribute.EnvVars) > 0 && !isFile && !attribute.IsZero(c) {
			said[attribute.EnvVars[0]] = attribute.GetString(c)
		}
	}
	return said
}

// What the chosen method sends, as far as it comes from a setting.
func values(c *config.Config) string {
	switch c.AuthType {
	case "pat":
		return c.Token
	case "oauth-m2m":
		return c.ClientID + "|" + c.ClientSecret
	case "azure-client-secret":
		return c.AzureClientID + "|" + c.AzureClientSecret
	case "github-oidc", "azure-devops-oidc", "env-oidc", "file-oidc":
		return c.ClientID
	case "metadata-service":
		return c.MetadataServiceURL
	}
	return ""
}

type stub struct{}

func (stub) RoundTrip(r *http.Request) (*http.Response, error) {
	answer := func(status int, body string, location string) (*http.Response, error) {
		header := http.Header{"Content-Type": {"application/json"}}
		if location != "" {
			header.Set("Location", location)
		}
		return &http.Response{
			StatusCode: status, Status: fmt.Sprint(status), Header: header, Request: r,
			Body: io.NopCloser(strings.NewReader(body)), ProtoMajor: 1, ProtoMinor: 1,
		}, nil
	}
	path, end := r.URL.Path, time.Now().Add(time.Hour).Unix()
	token := fmt.Sprintf(`{"access_token":"t","token_type":"Bearer","expires_in":"3600","expires_on":"%d"}`, end)
	switch {
	case strings.HasSuffix(path, "/.well-known/databricks-config"):
		return answer(200, `{"oidc_endpoint":"https://`+r.URL.Host+`/oidc"}`, "")
	case strings.HasSuffix(path, "/.well-known/oauth-authorization-server"):
		root := "https://" + r.URL.Host + "/oidc/v1/"
		return answer(200, `{"authorization_endpoint":"`+root+`authorize","token_endpoint":"`+root+`token"}`, "")
	case path == "/aad/auth":
		return answer(302, "", "https://login.microsoftonline.com/tenant/oauth2/authorize")
	case strings.HasPrefix(r.URL.Host, "management."):
		return answer(200, `{"properties":{"workspaceUrl":"adb-42.6.azuredatabricks.net"}}`, "")
	case strings.HasSuffix(path, "/github"):
		return answer(200, `{"value":"a.b.c"}`, "")
	case strings.HasSuffix(path, "/oidctoken"):
		return answer(200, `{"oidcToken":"a.b.c"}`, "")
	case strings.Contains(path, "token"), strings.Contains(path, "metadata"):
		return answer(200, token, "")
	}
	return answer(404, `{}`, "")
}

func judge(s environment) (v verdict) {
	os.Clearenv()
	for name, value := range s.Env {
		os.Setenv(name, value)
	}
	file := s.Home + "/.databrickscfg"
	os.Remove(file)
	if s.File != nil {
		if err := os.WriteFile(file, []byte(*s.File), 0o600); err != nil {
			panic(err)
		}
	}
	c := &config.Config{HTTPTransport: stub{}, RetryTimeoutSeconds: 1}
	request, _ := http.NewRequest("GET", "https://x/", nil)
	err := c.EnsureResolved()
	v.Read = asEnvironment(c, s.Env)
	if err == nil {
		err = c.Authenticate(request)
	}
	if err != nil {
		v.Error = err.Error()
	} else {
		v.AuthType = c.AuthType
		v.Values = values(c)
		v.Profile, v.WorkspaceID = c.Profile, c.WorkspaceID
	}
	v.Host = c.Host
	return v
}

func main() {
	http.DefaultTransport = stub{}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<24)
	out := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var s environment
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			panic(err)
		}
		if err := out.Encode(judge(s)); err != nil {
			panic(err)
		}
	}
}
