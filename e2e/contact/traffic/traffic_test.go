package traffic

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

const password = `correct "horse"`

// exchange sends a request and returns what was answered.
func exchange(t *testing.T, transport http.RoundTripper, method, url, body string, header ...string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return "failed"
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d %s", response.StatusCode, text)
}

// What is recorded has no secret, however it is written, and is what the client got otherwise; it can be played back.
func TestRecordAndPlay(t *testing.T) {
	texts := []string{
		`{"Username":"me","Password":"correct \"horse\"","size":7}`,
		`{"Username":"me","Password":"correct \"horse\"","size":8}`,
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/text":
			fmt.Fprint(w, texts[0])
			texts = append(texts[1:], texts[len(texts)-1])
		case "/moved":
			http.Redirect(w, r, "/layer?signature=battery+staple", http.StatusFound)
		case "/gone":
			panic(http.ErrAbortHandler)
		default:
			fmt.Fprint(w, "\x1f\x8b\x00layer")
		}
	}))
	defer server.Close()
	basic := base64.StdEncoding.EncodeToString([]byte("me:" + password))
	r := &Recorder{Base: http.DefaultTransport}
	r.Hide("a masked one")
	send := func(transport http.RoundTripper, token string) string {
		var all []string
		for range 3 {
			all = append(all, exchange(t, transport, "GET", server.URL+"/text", "", "Authorization", "Basic "+basic))
		}
		all = append(all, exchange(t, transport, "GET", server.URL+"/moved", ""),
			exchange(t, transport, "GET", server.URL+"/gone", ""),
			exchange(t, transport, "POST", server.URL+"/?token="+token, `{"a":"a masked one"}`, "Content-Type",
				"application/json"),
			exchange(t, transport, "POST", server.URL+"/", "binary "+password, "Content-Type", "multipart/form-data"))
		return strings.Join(all, "\n")
	}
	got := send(r, "a+masked+one")
	if !strings.Contains(got, `"size":7`) || strings.Count(got, `"size":8`) != 2 || strings.Count(got, "failed") != 1 {
		t.Fatalf("got %s", got)
	}
	var file strings.Builder
	if err := Write(&file, r.Exchanges()); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{password, `correct \"horse`, `correct \\\"horse`, basic, "battery staple",
		"battery+staple", "a masked one", "a+masked"} {
		if strings.Contains(file.String(), secret) {
			t.Errorf("%q was recorded:\n%s", secret, file.String())
		}
	}
	recorded, err := Read(strings.NewReader(file.String()))
	if err != nil || len(recorded) != 8 {
		t.Fatalf("%d exchanges, %v", len(recorded), err)
	}
	if e := recorded[0]; e.Status != 200 || e.Response.Size != int64(len(e.Response.Body)) || e.Took <= 0 {
		t.Errorf("recorded %+v", e)
	}
	server.Close()
	player := NewPlayer(recorded)
	played := strings.NewReplacer(`"horse"`, "", "\x1f\x8b\x00layer",
		"").Replace(send(player, strings.TrimPrefix(recorded[6].URL, server.URL+"/?token=")))
	want := r.Clean(strings.ReplaceAll(got, "\x1f\x8b\x00layer", ""))
	if played != want {
		t.Errorf("played\n%s\nwant\n%s", played, want)
	}
	if got := exchange(t, player, "GET", server.URL+"/other", ""); got != "failed" {
		t.Errorf("an unknown request gets %s", got)
	}
}

// A list that names the digest of a text names that of the text without its secrets when it is played.
func TestPlayerNamesDigestsOfWhatItGives(t *testing.T) {
	was := strings.Repeat("1", 64)
	player := NewPlayer([]Exchange{
		{Method: "GET", URL: "http://a/text", Status: 200, Response: Message{Body: "hidden", SHA256: was}},
		{Method: "GET", URL: "http://a/list", Status: 200, Response: Message{Body: was}},
	})
	digest := sha256.Sum256([]byte("hidden"))
	if got, want := exchange(t, player, "GET", "http://a/list", ""), "200 "+hex.EncodeToString(digest[:]); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestReadRefusesWhatIsNoTraffic(t *testing.T) {
	if _, err := Read(strings.NewReader("{}\nx")); err == nil || !strings.Contains(err.Error(), "exchange 2") {
		t.Errorf("got %v", err)
	}
}
