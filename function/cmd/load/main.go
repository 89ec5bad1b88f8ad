// Command load measures the service as its callers see it: it starts a registry, the service and the plugin on loopback,
// sends requests over HTTP, and prints tables. Times depend on the machine; counts, and ratios within one run, do not.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"
)

// options of a run.
type options struct {
	service, plugins string          // the service's binary, and the directory of plugins
	delays           []time.Duration // that the registry adds to each request
	each             time.Duration   // how long each scenario is measured
	soak             time.Duration   // how long to soak instead of running the scenarios; 0 for no soak
	worst            bool            // measure only the worst known inputs
	fleet            fleetSize       // of a fleet to roll out instead of running the scenarios; without replicas for none
	records          int             // decisions to record instead of running the scenarios; 0 for none
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == "bare" {
		exit(serveBare(os.Args[2]))
	}
	var o options
	var delays string
	flag.StringVar(&o.service, "service", "", "binary of the service")
	flag.StringVar(&o.plugins, "plugins", "", "directory of plugins")
	flag.StringVar(&delays, "registryDelay", "0,5ms,20ms,80ms", "what the registry adds to each request, comma-separated; all scenarios are run with the first, the cold ones with the others")
	flag.DurationVar(&o.each, "each", 2*time.Second, "time to measure a scenario")
	flag.DurationVar(&o.soak, "soak", 0, "send mixed load for so long, and watch memory, files and processes")
	flag.BoolVar(&o.worst, "worst", false, "measure the worst known inputs only")
	flag.IntVar(&o.records, "records", 0, "record so many decisions, in turns with as many that are not recorded")
	flag.IntVar(&o.fleet.replicas, "fleet", 0, "roll out so many replicas, with and without what they share")
	flag.IntVar(&o.fleet.images, "fleetImages", 2000, "images of that fleet")
	flag.IntVar(&o.fleet.tenants, "fleetTenants", 100, "trust policies of that fleet")
	flag.IntVar(&o.fleet.pods, "fleetPods", 10000, "pods in front of that fleet")
	flag.IntVar(&o.fleet.callers, "fleetCallers", 4, "callers that send to each replica of that fleet at once")
	flag.IntVar(&o.fleet.perSecond, "fleetRate", 500, "requests that the registry answers in a second, where it counts them")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	exit(run(ctx, o, delays))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func run(ctx context.Context, o options, delays string) (err error) {
	for _, text := range strings.Split(delays, ",") {
		delay, err := time.ParseDuration(strings.TrimSpace(text))
		if text != "0" && err != nil {
			return fmt.Errorf("registryDelay: %w", err)
		}
		o.delays = append(o.delays, delay)
	}
	if o.plugins, err = filepath.Abs(o.plugins); err != nil {
		return err
	}
	fx, err := newFixture(ctx, o)
	if err != nil {
		return err
	}
	defer fx.close()
	if o.fleet.replicas > 0 {
		return fx.fleet(ctx, o.fleet)
	}
	if o.records > 0 {
		return fx.records(ctx, o.records)
	}
	if o.soak > 0 {
		return fx.soak(ctx, o.soak)
	}
	if !o.worst {
		if err := fx.measureAll(ctx); err != nil {
			return err
		}
	}
	return fx.measureWorst(ctx)
}
