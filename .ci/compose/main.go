// Resolves compose files as `docker compose config` does, without Docker: the tests read what it prints.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/compose-spec/compose-go/v2/cli"
)

// Arguments are files of variables, over which those of the process hold; COMPOSE_FILE names the compose files, relative to the
// folder it is started in.
func main() {
	options, err := cli.NewProjectOptions(nil,
		cli.WithWorkingDirectory("."),
		cli.WithOsEnv,
		cli.WithEnvFiles(os.Args[1:]...),
		cli.WithDotEnv,
		cli.WithConfigFileEnv,
		cli.WithInterpolation(true),
		cli.WithResolvedPaths(true),
		cli.WithNormalization(true),
		cli.WithConsistency(true),
		cli.WithProfiles([]string{"*"}),
	)
	exitOn(err)
	project, err := options.LoadProject(context.Background())
	exitOn(err)
	text, err := project.MarshalJSON()
	exitOn(err)
	fmt.Println(string(text))
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
