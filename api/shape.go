package api

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
)

// view names a kind of object in answers. The answer itself may be one object or
// a list of them.
type view int

const (
	viewContainer view = iota
	viewContainerSummary
	viewImage
	viewImageSummary
	viewNetwork
	viewNetworkSummary
	viewInfo
	viewDiskUsage
	viewEvent
)

// object is a JSON object on its way to an older client.
type object = map[string]any

// shape is one difference between versions of the API: what is done to an
// object for clients older than 1.below.
type shape struct {
	view  view
	below int
	apply func(object)
}

// shapes takes answers from the newest version back to the oldest. Those of one
// view are in descending order of version, and apply one after the other.
var shapes = []shape{
	{viewContainer, 52, containerBefore52},
	{viewContainer, 48, drop("ImageManifestDescriptor")},
	{viewContainer, 48, eachEndpoint(drop("GwPriority"))},
	{viewContainer, 45, containerBefore45},
	{viewContainer, 44, eachEndpoint(drop("DNSNames"))},

	{viewContainerSummary, 52, drop("Health")},
	{viewContainerSummary, 48, drop("ImageManifestDescriptor")},
	{viewContainerSummary, 48, eachEndpoint(drop("GwPriority"))},
	{viewContainerSummary, 46, func(o object) { drop("Annotations")(child(o, "HostConfig")) }},
	{viewContainerSummary, 44, eachEndpoint(drop("DNSNames"))},

	{viewImage, 53, drop("Identity")},
	{viewImage, 52, imageBefore52},
	{viewImage, 50, imageBefore50},
	{viewImage, 48, drop("Descriptor", "Manifests")},
	{viewImage, 45, fill(object{"Container": "", "ContainerConfig": nil})},
	{viewImage, 44, imageBefore44},

	{viewImageSummary, 51, func(o object) { o["Containers"] = -1 }},
	{viewImageSummary, 48, drop("Descriptor")},
	{viewImageSummary, 47, drop("Manifests")},
	{viewImageSummary, 44, virtualSize},
	{viewImageSummary, 43, imageSummaryBefore43},

	{viewNetwork, 52, drop("Status")},
	{viewNetwork, 48, drop("EnableIPv4")},
	{viewNetworkSummary, 48, drop("EnableIPv4")},

	{viewInfo, 53, drop("NRI")},
	{viewInfo, 50, infoBefore50},
	{viewInfo, 49, infoBefore49},
	{viewInfo, 46, drop("Containerd")},
	{viewInfo, 44, infoBefore44},

	{viewDiskUsage, 48, eachOf("Images", drop("Descriptor", "Manifests"))},
	{viewDiskUsage, 44, eachOf("Images", virtualSize)},

	{viewEvent, 52, eventBefore52},
}

// shaped returns what a client of version v gets for an answer.
func shaped(v Version, kind view, answer any) (any, error) {
	var apply []func(object)
	for _, s := range shapes {
		if s.view == kind && v.before(s.below) {
			apply = append(apply, s.apply)
		}
	}
	if len(apply) == 0 {
		return answer, nil
	}
	doc, err := generic(answer)
	if err != nil {
		return nil, err
	}
	list, ok := doc.([]any)
	if !ok {
		list = []any{doc}
	}
	for _, item := range list {
		if o, ok := item.(object); ok {
			for _, f := range apply {
				f(o)
			}
		}
	}
	return doc, nil
}

// generic turns an answer into the form that [json.Unmarshal] gives to any.
// Numbers keep all their digits.
func generic(v any) (any, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var doc any
	err = dec.Decode(&doc)
	return doc, err
}

// writeShaped answers with a JSON document in the client's version.
func writeShaped(w *response, v Version, kind view, answer any) error {
	doc, err := shaped(v, kind, answer)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, doc)
}

// child returns an object's field that is an object; a missing one gives an
// object of its own, so that what is done to it has no effect.
func child(o object, field string) object {
	c, ok := o[field].(object)
	if !ok {
		return object{}
	}
	return c
}

func drop(fields ...string) func(object) {
	return func(o object) {
		for _, f := range fields {
			delete(o, f)
		}
	}
}

// fill adds fields that are missing.
func fill(fields object) func(object) {
	return func(o object) {
		for k, v := range fields {
			if _, ok := o[k]; !ok {
				o[k] = v
			}
		}
	}
}

// eachOf applies f to each object in a field that is a list.
func eachOf(field string, f func(object)) func(object) {
	return func(o object) {
		list, _ := o[field].([]any)
		for _, item := range list {
			if c, ok := item.(object); ok {
				f(c)
			}
		}
	}
}

// eachEndpoint applies f to the endpoints of a container.
func eachEndpoint(f func(object)) func(object) {
	return func(o object) {
		for _, endpoint := range child(child(o, "NetworkSettings"), "Networks") {
			if ep, ok := endpoint.(object); ok {
				f(ep)
			}
		}
	}
}

// containerBefore52 brings back the fields of the default bridge beside the
// networks, and the storage driver.
func containerBefore52(o object) {
	if settings, ok := o["NetworkSettings"].(object); ok {
		bridge := child(child(settings, "Networks"), "bridge")
		for field, none := range (object{
			"EndpointID": "", "Gateway": "", "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0,
			"IPAddress": "", "IPPrefixLen": 0, "IPv6Gateway": "", "MacAddress": "",
		}) {
			settings[field] = none
			if value, ok := bridge[field]; ok {
				settings[field] = value
			}
		}
		fill(object{
			"Bridge": "", "HairpinMode": false, "LinkLocalIPv6Address": "", "LinkLocalIPv6PrefixLen": 0,
			"SecondaryIPAddresses": nil, "SecondaryIPv6Addresses": nil,
		})(settings)
	}
	if config, ok := o["Config"].(object); ok {
		fill(object{"OnBuild": nil})(config)
	}
	if _, ok := o["GraphDriver"]; !ok {
		o["GraphDriver"] = object{"Name": o["Driver"], "Data": nil}
	}
	delete(o, "Storage")
}

// containerBefore45 adds the short id and the host name to the aliases on
// networks that users have made.
func containerBefore45(o object) {
	id, _ := o["Id"].(string)
	hostname, _ := child(o, "Config")["Hostname"].(string)
	for name, endpoint := range child(child(o, "NetworkSettings"), "Networks") {
		ep, ok := endpoint.(object)
		if !ok || slices.Contains([]string{"default", "bridge", "host", "none"}, name) {
			continue
		}
		aliases, _ := ep["Aliases"].([]any)
		for _, alias := range []string{id[:min(len(id), shortID)], hostname} {
			if alias != "" && !slices.Contains(aliases, any(alias)) {
				aliases = append(aliases, alias)
			}
		}
		ep["Aliases"] = aliases
	}
}

// shortID is the length of an abbreviated id.
const shortID = 12

// legacyDriver is what old clients are told about where an image is stored.
const legacyDriver = "overlayfs"

func imageBefore52(o object) {
	fill(object{
		"Parent": "", "Comment": "", "DockerVersion": "", "Author": "",
		"GraphDriver": object{"Name": legacyDriver, "Data": nil},
	})(o)
	if config, ok := o["Config"].(object); ok {
		fill(object{
			"Cmd": nil, "Entrypoint": nil, "Env": nil, "Labels": nil, "OnBuild": nil,
			"User": "", "Volumes": nil, "WorkingDir": "",
		})(config)
	}
}

// imageBefore50 adds what belongs to containers but was part of the type.
func imageBefore50(o object) {
	if config, ok := o["Config"].(object); ok {
		fill(object{
			"AttachStderr": false, "AttachStdin": false, "AttachStdout": false, "Domainname": "", "Hostname": "",
			"Image": "", "OpenStdin": false, "StdinOnce": false, "Tty": false,
		})(config)
	}
}

func imageBefore44(o object) {
	virtualSize(o)
	if created, _ := o["Created"].(string); created == "" {
		o["Created"] = "0001-01-01T00:00:00Z"
	}
}

func virtualSize(o object) { o["VirtualSize"] = o["Size"] }

func imageSummaryBefore43(o object) {
	tags, _ := o["RepoTags"].([]any)
	digests, _ := o["RepoDigests"].([]any)
	if len(tags) == 0 && len(digests) == 0 {
		o["RepoTags"] = []any{"<none>:<none>"}
		o["RepoDigests"] = []any{"<none>@<none>"}
	}
}

func infoBefore50(o object) {
	delete(o, "DiscoveredDevices")
	fill(object{"BridgeNfIptables": false, "BridgeNfIp6tables": false})(o)
}

func infoBefore49(o object) {
	delete(o, "FirewallBackend")
	for _, component := range []string{"ContainerdCommit", "RuncCommit", "InitCommit"} {
		if commit, ok := o[component].(object); ok {
			commit["Expected"] = commit["ID"]
		}
	}
	if registry, ok := o["RegistryConfig"].(object); ok {
		fill(object{"AllowNondistributableArtifactsCIDRs": nil, "AllowNondistributableArtifactsHostnames": nil})(registry)
	}
}

func infoBefore44(o object) {
	for _, runtime := range child(o, "Runtimes") {
		if rt, ok := runtime.(object); ok {
			delete(rt, "status")
		}
	}
}

// eventBefore52 adds the fields of the first form of events, without which some
// clients crash.
func eventBefore52(o object) {
	actor := child(o, "Actor")
	switch o["Type"] {
	case "container":
		o["id"], o["status"] = actor["ID"], o["Action"]
		from, _ := child(actor, "Attributes")["image"].(string)
		o["from"] = from
	case "image":
		o["id"], o["status"] = actor["ID"], o["Action"]
	}
}
