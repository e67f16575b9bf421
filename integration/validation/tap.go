// SPDX-License-Identifier: Apache-2.0

// Package tap has what runtime-tools' validation calls of the library of this name, which Debian lacks: it writes the Test
// Anything Protocol, version 13, to standard output.
package tap

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

// T counts the assertions that were made.
type T struct {
	// Writer is where lines go, standard output if nil.
	Writer io.Writer
	made   *int
	todo   bool
}

// New has made none.
func New() *T {
	return &T{made: new(int)}
}

func (t *T) printf(format string, values ...interface{}) {
	var to io.Writer = os.Stdout
	if t.Writer != nil {
		to = t.Writer
	}
	fmt.Fprintf(to, format, values...)
}

// Todo is for one assertion that is known not to hold yet.
func (t *T) Todo() *T {
	todo := *t
	todo.todo = true
	return &todo
}

// Header begins the output, with a plan if the count is known, which 0 says it is not.
func (t *T) Header(count int) {
	t.printf("TAP version 13\n")
	if count > 0 {
		t.printf("1..%d\n", count)
	}
}

// AutoPlan is the plan at the end.
func (t *T) AutoPlan() {
	t.printf("1..%d\n", *t.made)
}

// Ok is an assertion.
func (t *T) Ok(holds bool, description string) {
	word := "ok"
	if !holds {
		word = "not ok"
	}
	*t.made++
	directive := ""
	if t.todo {
		directive = " # TODO"
	}
	t.printf("%s %d -%s %s\n", word, *t.made, directive, description)
}

// Pass is an assertion that holds.
func (t *T) Pass(description string) {
	t.Ok(true, description)
}

// Fail is one that does not.
func (t *T) Fail(description string) {
	t.Ok(false, description)
}

// Skip is that many that nobody looked at.
func (t *T) Skip(count int, description string) {
	for ; count > 0; count-- {
		*t.made++
		t.printf("ok %d # SKIP %s\n", *t.made, description)
	}
}

// Diagnostic is for the reader.
func (t *T) Diagnostic(message string) {
	t.printf("# %s\n", strings.ReplaceAll(message, "\n", "\n# "))
}

// Diagnosticf is Diagnostic with a format.
func (t *T) Diagnosticf(format string, values ...interface{}) {
	t.Diagnostic(fmt.Sprintf(format, values...))
}

// YAML belongs to the assertion before it; JSON is YAML.
func (t *T) YAML(message interface{}) error {
	text, err := json.MarshalIndent(message, "  ", "  ")
	if err != nil {
		return err
	}
	t.printf("  ---\n  %s\n  ...\n", text)
	return nil
}
