package image

import (
	"archive/tar"
	"bytes"
	"os"
	"testing"

	"github.com/containerd/errdefs"
)

// Whatever an archive says: it is loaded or refused as the client's fault, and a
// refused one leaves nothing.
func FuzzLoad(f *testing.F) {
	if os.Geteuid() != 0 {
		f.Skip("needs root for overlayfs")
	}
	layer := string([]byte{0x1f, 0x8b})
	config := `{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}`
	f.Add("manifest.json", `[{"Config":"c","RepoTags":["a:b"],"Layers":[]}]`, "c", config)
	f.Add("manifest.json", `[{"Config":"c","Layers":["c","c"]}]`, "c", layer)
	f.Add("index.json", `{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2}]}`,
		"blobs/sha256/44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a", "{}")
	f.Add("index.json", `{"manifests":[{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":-2}]}`,
		"blobs/sha256/44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a", "{}")
	e := openEngine(f, f.TempDir())
	f.Fuzz(func(t *testing.T, table, content, name, data string) {
		if len(table) > 100 || len(name) > 200 || bytes.ContainsRune([]byte(table+name), 0) || table == "" || name == "" {
			t.Skip("no name of a file")
		}
		e.ctx = testContext(t.Context())
		archive := tarOf(t,
			entry{name: "oci-layout", content: `{"imageLayoutVersion":"1.0.0"}`},
			entry{name: table, content: content}, entry{name: name, content: data, typ: tar.TypeReg},
		)
		if table == "manifest.json" {
			archive = archive[1024:]
		}
		err := e.Load(e.ctx, bytes.NewReader(archive), LoadOptions{})
		if err != nil && !errdefs.IsInvalidArgument(err) {
			t.Errorf("class of %v", err)
		}
		if err == nil {
			return
		}
		for _, line := range mustCheck(t, e) {
			t.Error(line)
		}
	})
}
