package browser

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/nirmata/kyverno-notation-venafi/core/auditor"
	"github.com/nirmata/kyverno-notation-venafi/core/console"
	"github.com/nirmata/kyverno-notation-venafi/core/record"
	"github.com/nirmata/kyverno-notation-venafi/function"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
	shelltrust "github.com/nirmata/kyverno-notation-venafi/shell/trust"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

var screenshots = flag.String("screenshots", "", "directory to which the main views are written as PNG files")

// site is a console with content of its own.
type site struct {
	url string
	ids map[string]string // of decisions, by case
}

// newSite decides on the image of every case, and shows that with trust and with what an auditor would have found.
func newSite(t *testing.T) site {
	t.Helper()
	images := registrytest.New(registrytest.Options{})
	t.Cleanup(images.Close)
	scenario, err := scenariotest.New(images.Host(), images.Client(), true)
	if err != nil {
		t.Fatal(err)
	}
	if scenario.Platform, err = signingtest.NewPlatform(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = scenario.Platform.Close() })
	trust := trustFiles(t, scenario)
	settings, _, err := function.LoadSettings("test", []string{
		"--trustDir", trust, "--defaultTrustPolicy", scenariotest.PolicyName, "--allowLoopback", "--insecureRegistries", images.Host(),
		"--dockerConfig", filepath.Join(t.TempDir(), "none.json"), "--pluginDir", t.TempDir(), "--decisionsWithoutToken",
	}, os.LookupEnv, nil)
	if err != nil {
		t.Fatal(err)
	}
	engine, err := function.NewAudit(settings, os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(engine.Close)
	resources, _, err := shelltrust.ReadDir(trust)
	if err != nil {
		t.Fatal(err)
	}
	snapshot, _ := resources.Compile()
	s := site{ids: map[string]string{}}
	var made decisions
	for i, c := range scenariotest.Cases() {
		if _, err := scenario.Publish(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		namespace := []string{"shop", "billing", "search"}[i%3]
		body := strings.Replace(c.Request(scenario.Reference(c.Name)), `"kind":"Pod",`, fmt.Sprintf(`"kind":"Pod","metadata":{"namespace":%q,"name":%q},`, namespace, c.Name), 1)
		r, err := engine.Explain(t.Context(), []byte(body), snapshot)
		if err != nil {
			t.Fatal(err)
		}
		r.Caller, r.Endpoint, r.Replica = "system:serviceaccount:kyverno:kyverno-admission-controller", "/checkimages", "kyverno-notation-venafi-0"
		made, s.ids[c.Name] = append(made, r), r.ID
	}
	pages, err := function.NewConsole(function.Settings{}, function.ConsoleSettings{}, function.ConsoleSources{
		Decisions: made,
		Trust: func(context.Context) (shelltrust.Resources, []shelltrust.Problem, error) {
			return shelltrust.ReadDir(trust)
		},
		Running: func(context.Context) (function.ConsoleReports, error) { return running(scenario), nil },
	}, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(pages.Handler())
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

// trustFiles is the trust of the scenario, with stores that expire soon, have expired and cannot be read.
func trustFiles(t *testing.T, scenario *scenariotest.Scenario) string {
	t.Helper()
	dir := t.TempDir()
	if err := scenario.WriteTrust(dir); err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{
		"partner": scenariotest.TrustStore("partner", authority(t, "Partner Root", -900, 18)),
		"former":  scenariotest.TrustStore("former", authority(t, "Former Root", -1200, -12)),
		"team":    scenariotest.TrustStore("team", slices.Concat(authority(t, "Team Root 2026", -40, 320), authority(t, "Team Root 2027", 20, 500))),
		"broken":  scenariotest.TrustStore("broken", []byte("no certificate")),
		"shop":    scenariotest.TrustPolicy("tp-shop", "strict", "ca:team"),
		"legacy":  scenariotest.TrustPolicy("tp-legacy", "permissive", "ca:former"),
	}
	for name, text := range texts {
		if err := os.WriteFile(filepath.Join(dir, name+".yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// authority is the certificate of a CA that is valid from and until so many days from now, PEM.
func authority(t *testing.T, name string, from, until int) []byte {
	t.Helper()
	now := time.Now()
	ca, err := signingtest.NewCA(signingtest.Options{CommonName: name, Organization: "Acme", NotBefore: now.AddDate(0, 0, from), NotAfter: now.AddDate(0, 0, until).Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	return ca.PEM()
}

// decisions are records in memory.
type decisions []record.Record

// Recent is part of function.ConsoleDecisions.
func (d decisions) Recent(context.Context) (heads []console.Decision, from string, err error) {
	for _, r := range d {
		_, line, err := record.Encode(r)
		if err != nil {
			return nil, "", err
		}
		head, err := console.ReadDecision(line)
		if err != nil {
			return nil, "", err
		}
		heads = append(heads, head)
	}
	return heads, "From the memory of one replica.", nil
}

// Find is part of function.ConsoleDecisions.
func (d decisions) Find(_ context.Context, id string) (record.Record, error) {
	for _, r := range d {
		if r.ID == id {
			encoded, _, err := record.Encode(r)
			return encoded, err
		}
	}
	return record.Record{}, function.ErrNoDecision
}

// running is what an auditor writes.
func running(scenario *scenariotest.Scenario) function.ConsoleReports {
	var reports []auditor.Report
	at := auditor.Timestamp{Seconds: time.Now().Add(-7 * time.Minute).Unix()}
	add := func(namespace, kind, name, image string, result auditor.Result, code, message string) {
		report := auditor.Report{Metadata: auditor.Metadata{Namespace: namespace}, Scope: auditor.Scope{Kind: kind, Name: name}}
		switch result {
		case auditor.Fail:
			report.Summary.Fail = 1
		case auditor.Warn:
			report.Summary.Warn = 1
		case auditor.Pass:
			report.Summary.Pass = 1
		}
		report.Results = []auditor.RuleResult{{Policy: "demo", Rule: "app", Result: result, Message: message, Timestamp: at, Properties: map[string]string{"image": image, "code": code, "pods": "3"}}}
		reports = append(reports, report)
	}
	add("shop", "Deployment", "cart", scenario.Reference("unsigned"), auditor.Fail, "NoSignature", "would be denied on restart: no signature is associated with the image")
	add("billing", "StatefulSet", "ledger", scenario.Reference("foreign"), auditor.Fail, "SignatureUntrusted", "runs what would be denied: the signature's certificate chain does not contain any trusted certificate")
	add("search", "Deployment", "index", scenario.Reference("signed"), auditor.Warn, "Verified", "runs another digest than its tag gives now: signed by CN=Acme Release")
	add("search", "DaemonSet", "agent", scenario.Reference("signed-cose"), auditor.Pass, "Verified", "signed by CN=Acme Build")
	return function.ConsoleReports{Reports: reports, From: "From 4 reports of the auditor."}
}

// flags are those that chromium runs with here: as root, and without a word to anyone else.
var flags = []chromedp.ExecAllocatorOption{
	chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck, chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU,
	chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
	chromedp.Flag("disable-sync", true), chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("hide-scrollbars", true),
}

// browse starts a browser, or skips the test where there is none.
func browse(t *testing.T) context.Context {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skipf("there is no chromium (apt-get install chromium): %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, append(slices.Clone(flags), chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()))...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	must(t, chromedp.Do(ctx))
	return ctx
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// got runs an action and gives its value.
func got[T any](ctx context.Context, t *testing.T, action chromedp.Action[T]) T {
	t.Helper()
	value, err := chromedp.Run(ctx, action)
	must(t, err)
	return value
}

// complaints are what the browser writes to its console, and the failures of what it loads.
type complaints struct {
	mu    sync.Mutex
	texts []string
}

func listen(ctx context.Context, t *testing.T) *complaints {
	t.Helper()
	c := &complaints{}
	must(t, chromedp.Listen(ctx, func(event any) {
		text := ""
		switch e := event.(type) {
		case *log.EventEntryAdded:
			text = fmt.Sprintf("%s: %s %s", e.Entry.Level, e.Entry.Text, e.Entry.URL)
		case *runtime.EventConsoleAPICalled:
			text = fmt.Sprintf("console.%s", e.Type)
		case *runtime.EventExceptionThrown:
			text = e.ExceptionDetails.Text
		default:
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.texts = append(c.texts, text)
	}))
	return c
}

func (c *complaints) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	taken := c.texts
	c.texts = nil
	return taken
}

// scheme emulates the preference for a light or dark page.
func scheme(ctx context.Context, t *testing.T, name string) {
	t.Helper()
	_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}}})
	must(t, err)
}

// views are the main pages.
func (s site) views() map[string]string {
	return map[string]string{
		"overview": "/", "policies": "/policies", "stores": "/stores", "decisions": "/decisions", "running": "/running", "absent": "/absent",
		"denied": "/decisions/" + s.ids["foreign"], "attested": "/decisions/" + s.ids["sbom-unmet"],
	}
}

// seen is what is measured in a page.
type seen struct {
	Title    string   `json:"title"`
	Overflow []string `json:"overflow"` // elements that stand out at the right
	Pale     []string `json:"pale"`     // texts of too little contrast
	Texts    int      `json:"texts"`    // that were looked at
	Scripts  int      `json:"scripts"`
	Lang     string   `json:"lang"`
	Headings string   `json:"headings"`
	Unnamed  []string `json:"unnamed"` // controls and links without a name
}

// measure looks at texts as WCAG 2.2 does (success criterion 1.4.3): 4.5 to 1, or 3 to 1 for large ones.
const measure = `(() => {
  const parse = c => { const m = c.match(/[\d.]+/g).map(Number); return {r: m[0], g: m[1], b: m[2], a: m.length > 3 ? m[3] : 1}; };
  const over = (top, below) => ({r: top.r*top.a + below.r*(1-top.a), g: top.g*top.a + below.g*(1-top.a), b: top.b*top.a + below.b*(1-top.a), a: 1});
  const channel = v => { v /= 255; return v <= 0.04045 ? v / 12.92 : Math.pow((v + 0.055) / 1.055, 2.4); };
  const luminance = c => 0.2126*channel(c.r) + 0.7152*channel(c.g) + 0.0722*channel(c.b);
  const backOf = e => { const layers = []; for (; e; e = e.parentElement) layers.push(parse(getComputedStyle(e).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), {r: 255, g: 255, b: 255, a: 1}); };
  const pale = []; let texts = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let n = walker.nextNode(); n; n = walker.nextNode()) {
    if (!n.textContent.trim()) continue;
    const e = n.parentElement, style = getComputedStyle(e);
    if (style.visibility === 'hidden' || style.display === 'none' || !e.getClientRects().length) continue;
    texts++;
    const back = backOf(e), front = over(parse(e instanceof SVGElement ? style.fill : style.color), back);
    const [light, dark] = [luminance(front), luminance(back)].sort((a, b) => b - a), ratio = (light + 0.05) / (dark + 0.05);
    const size = parseFloat(style.fontSize), large = size >= 24 || size >= 18.66 && Number(style.fontWeight) >= 700;
    if (ratio < (large ? 3 : 4.5)) pale.push(ratio.toFixed(2) + ' ' + e.className + ': ' + n.textContent.trim().slice(0, 40));
  }
  const overflow = [];
  if (document.documentElement.scrollWidth > innerWidth) overflow.push('the page is ' + document.documentElement.scrollWidth + ' wide');
  for (const e of document.querySelectorAll('main *, header *, footer *')) {
    const r = e.getBoundingClientRect();
    if (r.width && r.right > innerWidth + 0.5 && !e.closest('.tree')) overflow.push(e.tagName + '.' + e.className + ' ends at ' + r.right);
  }
  const unnamed = [...document.querySelectorAll('a, button, input, select, summary')].filter(e => !(e.textContent.trim() || e.labels && e.labels.length)).map(e => e.outerHTML);
  return {title: document.title, overflow, pale, texts, unnamed, scripts: document.querySelectorAll('script').length, lang: document.documentElement.lang,
    headings: [...document.querySelectorAll('h1')].map(h => h.textContent).join('|')};
})()`

// TestPages opens every page at the widths of a telephone and of a screen, light and dark, and measures it.
func TestPages(t *testing.T) {
	ctx := browse(t)
	s := newSite(t)
	heard := listen(ctx, t)
	for _, width := range []int64{360, 1440} {
		for _, colours := range []string{"light", "dark"} {
			for name, path := range s.views() {
				what := fmt.Sprintf("%s at %d, %s", name, width, colours)
				scheme(ctx, t, colours)
				must(t, chromedp.Do(ctx, chromedp.EmulateViewport(width, 900), chromedp.Navigate(s.url+path)))
				page := got(ctx, t, chromedp.Evaluate[seen](measure))
				for _, complaint := range heard.take() {
					if name != "absent" || !strings.Contains(complaint, "404") {
						t.Errorf("%s: the browser says %s", what, complaint)
					}
				}
				if len(page.Overflow) > 0 || len(page.Pale) > 0 || len(page.Unnamed) > 0 {
					t.Errorf("%s: overflow %q, too pale %q, without a name %q", what, page.Overflow, page.Pale, page.Unnamed)
				}
				if page.Texts < 10 || page.Scripts > 0 || page.Lang != "en" || page.Headings == "" || strings.Contains(page.Headings, "|") || !strings.Contains(page.Title, "kyverno-notation-venafi") {
					t.Errorf("%s: %+v", what, page)
				}
			}
		}
	}
}

// TestMeasureSees holds the measure against a page with one fault of each kind.
func TestMeasureSees(t *testing.T) {
	ctx := browse(t)
	faulty := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, `<!doctype html><title>x</title><body style="background:#fff"><main><p style="color:#888">pale</p><div style="width:2000px">wide</div><a href="/"></a></main><script>console.error("x")</script>`)
	}))
	t.Cleanup(faulty.Close)
	heard := listen(ctx, t)
	must(t, chromedp.Do(ctx, chromedp.EmulateViewport(360, 900), chromedp.Navigate(faulty.URL)))
	page := got(ctx, t, chromedp.Evaluate[seen](measure))
	if len(page.Pale) != 1 || len(page.Overflow) == 0 || len(page.Unnamed) != 1 || page.Scripts != 1 || len(heard.take()) == 0 {
		t.Errorf("%+v", page)
	}
}

// focused is what has the focus.
type focused struct {
	What    string  `json:"what"`
	Tag     string  `json:"tag"`
	Style   string  `json:"style"`
	Outline float64 `json:"outline"` // pixels
	Shown   bool    `json:"shown"`
}

func (f focused) visible() bool { return f.Shown && f.Outline >= 2 && f.Style != "none" }

const focus = `(() => { const e = document.activeElement, style = getComputedStyle(e), r = e.getBoundingClientRect();
  return {what: e.id || e.name || e.textContent.trim(), outline: parseFloat(style.outlineWidth), style: style.outlineStyle, shown: r.left >= 0 && r.right <= innerWidth && r.width > 0, tag: e.tagName}; })()`

// TestKeyboard goes through the page of decisions by the keyboard alone: to the content by the skip link, into the filter, and to a
// decision. Whatever has the focus shows it.
func TestKeyboard(t *testing.T) {
	ctx := browse(t)
	s := newSite(t)
	press := func(key string) focused {
		t.Helper()
		must(t, chromedp.Do(ctx, chromedp.KeyEvent(key)))
		return got(ctx, t, chromedp.Evaluate[focused](focus))
	}
	must(t, chromedp.Do(ctx, chromedp.EmulateViewport(1440, 900), chromedp.Navigate(s.url+"/decisions")))
	if at := press(kb.Tab); at.What != "Skip to the content" || !at.visible() {
		t.Fatalf("the first stop is %+v", at)
	}
	if at := press(kb.Enter); at.What != "main" {
		t.Fatalf("the skip link leads to %+v", at)
	}
	var stops []string
	for range 5 {
		at := press(kb.Tab)
		if !at.visible() {
			t.Errorf("the focus is not seen on %+v", at)
		}
		stops = append(stops, at.Tag+" "+at.What)
	}
	if !slices.Equal(stops[:4], []string{"INPUT namespace", "INPUT image", "SELECT code", "BUTTON Show"}) || !strings.HasPrefix(stops[4], "A Pod ") {
		t.Errorf("the stops are %q", stops)
	}
	must(t, chromedp.Do(ctx, chromedp.KeyEvent(kb.Enter), chromedp.WaitVisible("#chain")))
	if title := got(ctx, t, chromedp.Title()); !strings.HasPrefix(title, "Decision ") {
		t.Errorf("Enter leads to %q", title)
	}
}

// TestFilter fills in the form, with scripts switched off, and reads what comes.
func TestFilter(t *testing.T) {
	ctx := browse(t)
	s := newSite(t)
	_, err := chromedp.Call(ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	must(t, err)
	must(t, chromedp.Do(ctx, chromedp.Navigate(s.url+"/decisions"), chromedp.SendKeys("input[name=image]", "acme/un"), chromedp.SendKeys("select[name=code]", "NoSignature"),
		chromedp.Click("form button"), chromedp.WaitVisible("form a")))
	sum, first := got(ctx, t, chromedp.Text(".sum")), got(ctx, t, chromedp.Text(".row"))
	if !strings.HasPrefix(sum, "1 of 18 ") || !strings.Contains(first, "acme/unsigned:v1") || !strings.Contains(first, "denied") {
		t.Errorf("the page says %q, and first %q", sum, first)
	}
}

// TestNothingElseIsAskedFor: pages load nothing but the style and the icon, of their own host, even where the content names others.
func TestNothingElseIsAskedFor(t *testing.T) {
	ctx := browse(t)
	s := newSite(t)
	for name, path := range s.views() {
		must(t, chromedp.Do(ctx, chromedp.Navigate(s.url+path)))
		loaded := got(ctx, t, chromedp.Evaluate[[]string](`performance.getEntriesByType('resource').map(e => e.name)`))
		slices.Sort(loaded)
		if !slices.Equal(slices.Compact(loaded), []string{s.url + "/console.css", s.url + "/icon.svg"}) {
			t.Errorf("%s loads %q", name, loaded)
		}
	}
}

// TestScreenshots writes the images of the documentation where -screenshots names a folder, each below 150 kB.
func TestScreenshots(t *testing.T) {
	if *screenshots == "" {
		t.Skip("no -screenshots DIR")
	}
	ctx := browse(t)
	s := newSite(t)
	for name, take := range map[string]struct {
		path, colours string
		width, height int64
	}{
		"console-overview":       {"/", "light", 1440, 1000},
		"console-decision":       {"/decisions/" + s.ids["foreign"], "light", 1440, 900},
		"console-stores-dark":    {"/stores", "dark", 1440, 900},
		"console-decisions-slim": {"/decisions", "light", 360, 800},
	} {
		scheme(ctx, t, take.colours)
		must(t, chromedp.Do(ctx, chromedp.EmulateViewport(take.width, take.height), chromedp.Navigate(s.url+take.path)))
		shot := small(t, got(ctx, t, chromedp.CaptureScreenshot()))
		if len(shot) > 150_000 {
			t.Errorf("%s has %d bytes", name, len(shot))
		}
		if err := os.WriteFile(filepath.Join(*screenshots, name+".png"), shot, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// small is a screenshot in the 256 colours that it has most of.
func small(t *testing.T, screenshot []byte) []byte {
	t.Helper()
	full, err := png.Decode(bytes.NewReader(screenshot))
	must(t, err)
	count := map[color.Color]int{}
	bounds := full.Bounds()
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			count[full.At(x, y)]++
		}
	}
	colours := slices.SortedFunc(maps.Keys(count), func(a, b color.Color) int { return count[b] - count[a] })
	paletted := image.NewPaletted(bounds, colours[:min(256, len(colours))])
	draw.Draw(paletted, bounds, full, bounds.Min, draw.Src)
	var text bytes.Buffer
	must(t, (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&text, paletted))
	return text.Bytes()
}
