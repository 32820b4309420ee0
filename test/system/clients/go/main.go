// An MCP client of the official Go SDK: `client URL SECONDS (TOOL ARGUMENTS)...`. Prints the address where a person
// is needed, waits for them at its callback, lists tools, calls each one, and again after SECONDS, when its token has
// expired.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
)

func main() {
	ctx := context.Background()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	came := make(chan *auth.AuthorizationResult, 1)
	go http.Serve(listener, http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		query := request.URL.Query()
		if query.Get("state") == "" {
			http.NotFound(answer, request)
			return
		}
		fmt.Fprint(answer, "You can close this window.")
		came <- &auth.AuthorizationResult{Code: query.Get("code"), State: query.Get("state"), Iss: query.Get("iss")}
	}))
	redirect := fmt.Sprintf("http://%s/callback", listener.Addr())
	handler, err := auth.NewAuthorizationCodeHandler(&auth.AuthorizationCodeHandlerConfig{
		RedirectURL: redirect,
		AuthorizationCodeFetcher: func(_ context.Context, args *auth.AuthorizationArgs) (*auth.AuthorizationResult, error) {
			fmt.Println(args.URL)
			return <-came, nil
		},
		DynamicClientRegistrationConfig: &auth.DynamicClientRegistrationConfig{
			Metadata: &oauthex.ClientRegistrationMetadata{
				ClientName:              "Go SDK",
				RedirectURIs:            []string{redirect},
				GrantTypes:              []string{"authorization_code", "refresh_token"},
				TokenEndpointAuthMethod: "none",
			},
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	client := mcp.NewClient(&mcp.Implementation{Name: "go-sdk", Version: "1"}, nil)
	session, err := client.Connect(ctx, &mcp.StreamableClientTransport{Endpoint: os.Args[1], OAuthHandler: handler}, nil)
	if err != nil {
		log.Fatalf("connect: %v", err)
	}
	defer session.Close()
	tools, err := session.ListTools(ctx, nil)
	if err != nil {
		log.Fatalf("list: %v", err)
	}
	names := []string{}
	for _, tool := range tools.Tools {
		names = append(names, tool.Name)
	}
	fmt.Println("tools", strings.Join(names, " "))
	seconds, _ := strconv.Atoi(os.Args[2])
	for _, wait := range []int{0, seconds} {
		time.Sleep(time.Duration(wait) * time.Second)
		for call := os.Args[3:]; len(call) > 1; call = call[2:] {
			answer, err := session.CallTool(ctx, &mcp.CallToolParams{Name: call[0], Arguments: json.RawMessage(call[1])})
			if err != nil {
				log.Fatalf("call: %v", err)
			}
			text := answer.Content[0].(*mcp.TextContent).Text
			fmt.Println("answered", call[0], strings.Join(strings.Fields(text), " "))
		}
	}
}
