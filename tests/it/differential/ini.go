// go-ini with the options of the official SDK for Go (config/config_file.go). Reads a file as a JSON text a line, and
// prints the sections that have keys, or an error.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"

	"gopkg.in/ini.v1"
)

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(make([]byte, 1<<20), 1<<20)
	for lines.Scan() {
		var text string
		if err := json.Unmarshal(lines.Bytes(), &text); err != nil {
			panic(err)
		}
		sections := map[string]map[string]string{}
		file, err := ini.LoadSources(ini.LoadOptions{SpaceBeforeInlineComment: true}, []byte(text))
		if err == nil {
			for _, section := range file.Sections() {
				if values := section.KeysHash(); len(values) > 0 {
					sections[section.Name()] = values
				}
			}
		}
		answer, _ := json.Marshal(map[string]any{"failed": err != nil, "sections": sections})
		fmt.Println(string(answer))
	}
}
