// Command instance is what runs in the instances of the cloud drivers' tests,
// in place of the nutshell binary.
package main

import (
	"os"

	"nutshell/cloud/cloudtest"
)

func main() { os.Exit(cloudtest.Main(os.Args[1:])) }
