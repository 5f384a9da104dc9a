// The load of the benchmark: requests as kube-apiserver sends them, by raw gRPC stubs, so that a server is the bottleneck and
// not its client. A process per server under test: it takes commands as JSON, one a line, on standard input, and answers on
// standard output with {"begins":true} when the measured part begins and with one result as JSON at the end. It knows the
// revision of every key from one command to the next. Samples may come in between. Built and run by client.ts.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"syscall"
	"time"
)

type command struct {
	// fill, adopt, settle or the name of a scenario.
	Do string `json:"do"`
	// How many requests are under way at a time.
	Clients int `json:"clients"`
	// Length of the measured part.
	Seconds float64 `json:"seconds"`
	// Requests per second to offer; 0: as many as the server takes.
	Rate float64 `json:"rate"`
	// Keys of `fill` and `adopt`.
	Keys int `json:"keys"`
	// `adopt`: the revision of the first key; each next key has the next one.
	First int64 `json:"first"`
	// Watchers of the watch scenarios.
	Watchers int `json:"watchers"`
	// Where the watchers are, when not at the server that is written to.
	Endpoint string `json:"endpoint"`
	// Seconds between samples; 0: none. A sample is a result, in {"sample":…}, of what came since the one before.
	Every float64 `json:"every"`
	// `compact`: the revision.
	Revision int64 `json:"revision"`
}

type result struct {
	summary
	// Compares that failed because another client was faster: what etcd's contract asks for.
	Conflicts int `json:"conflicts"`
	Errors    int `json:"errors"`
	// The first of them.
	Error string `json:"error,omitempty"`
	// Of the measured part.
	Seconds float64 `json:"seconds"`
	// CPU seconds of this client in the measured part.
	CPU float64 `json:"cpu"`
	// Of loads that mix operations.
	Parts map[string]summary `json:"parts,omitempty"`
	// Of the last answer.
	Revision int64 `json:"revision,omitempty"`
	Keys     int   `json:"keys,omitempty"`
}

func main() {
	endpoint := flag.String("endpoint", "", "HOST:PORT of the server")
	connections := flag.Int("connections", 4, "connections")
	valueBytes := flag.Int("value-bytes", 1024, "bytes of a value")
	flag.Parse()
	// Memory is cheaper here than CPU, which the server could use.
	debug.SetGCPercent(400)
	b, err := open(*endpoint, *connections, *valueBytes)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var c command
		if err := json.Unmarshal(in.Bytes(), &c); err != nil {
			fmt.Fprintln(os.Stderr, "Expected a command as JSON:", err)
			os.Exit(2)
		}
		answer(b.run(c))
	}
}

func answer(value any) {
	line, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	os.Stdout.Write(append(line, '\n'))
}

// CPU seconds of this process so far.
func cpuSeconds() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	seconds := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return seconds(usage.Utime) + seconds(usage.Stime)
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func (b *bench) run(c command) result {
	switch c.Do {
	case "fill":
		return b.fill(c)
	case "adopt":
		return b.adopt(c)
	case "settle":
		return b.settle(c)
	case "revision":
		revision, err := b.revision()
		if err != nil {
			return failed(err)
		}
		return result{Revision: revision}
	case "compact":
		return b.compact(c)
	case "update":
		return b.repeat(c, b.updates())
	case "create":
		return b.repeat(c, b.create)
	case "delete":
		return b.deleteAll(c)
	case "hot":
		return b.hot(c)
	case "get":
		return b.repeat(c, b.gets())
	case "page":
		return b.repeat(c, b.page)
	case "continue":
		return b.continuePages(c)
	case "list":
		return b.list(c)
	case "count":
		return b.repeat(c, b.count)
	case "count-past":
		return b.countPast(c)
	case "delivery":
		return b.delivery(c, everyWatcher)
	case "delivery-of-one":
		return b.delivery(c, oneWatcher)
	case "fan-out":
		return b.fanOut(c)
	case "progress":
		return b.progress(c, false)
	case "progress-after-write":
		return b.progress(c, true)
	case "mixed":
		return b.mixed(c)
	}
	return failed(fmt.Errorf("Expected the name of a scenario, got %q", c.Do))
}

func failed(err error) result { return result{Errors: 1, Error: err.Error()} }
