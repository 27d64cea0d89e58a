package hostile

import (
	"strings"

	"go.yaml.in/yaml/v4"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Spoil changes every text that the real endpoint answers with: in messages, in the specs of resources, in the bytes of
// files and logs, and in errors.
func (e *Endpoint) Spoil(text func(string) string) {
	e.mu.Lock()
	e.spoil = text
	e.mu.Unlock()

	e.Answers(func(_, _ string, m proto.Message) { spoilMessage(m.ProtoReflect(), text) })
}

// spoiled is the error that ends a call, with its text changed.
func (e *Endpoint) spoiled(err error) error {
	e.mu.Lock()
	defer e.mu.Unlock()

	if e.spoil == nil {
		return status.Convert(err).Err()
	}

	return status.Error(status.Code(err), e.spoil(status.Convert(err).Message()))
}

func spoilMessage(m protoreflect.Message, text func(string) string) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap():
			v.Map().Range(func(k protoreflect.MapKey, item protoreflect.Value) bool {
				v.Map().Set(k, spoilValue(f.MapValue(), item, text))

				return true
			})
		case f.IsList():
			for i := range v.List().Len() {
				v.List().Set(i, spoilValue(f, v.List().Get(i), text))
			}
		default:
			m.Set(f, spoilValue(f, v, text))
		}

		return true
	})
}

func spoilValue(f protoreflect.FieldDescriptor, v protoreflect.Value, text func(string) string) protoreflect.Value {
	switch {
	case f.Kind() == protoreflect.MessageKind:
		spoilMessage(v.Message(), text)
	case f.FullName() == "common.Data.bytes":
		return protoreflect.ValueOfBytes([]byte(text(string(v.Bytes()))))
	case f.Kind() == protoreflect.StringKind && f.Name() == "yaml_spec":
		return protoreflect.ValueOfString(spoilYAML(v.String(), text))
	case f.Kind() == protoreflect.StringKind && f.Name() != "type_url":
		return protoreflect.ValueOfString(strings.ToValidUTF8(text(v.String()), "\uFFFD"))
	}

	return v
}

func spoilYAML(spec string, text func(string) string) string {
	var doc yaml.Node
	if yaml.Unmarshal([]byte(spec), &doc) != nil {
		return spec
	}

	spoilNode(&doc, text)

	out, err := yaml.Marshal(&doc)
	if err != nil {
		return spec
	}

	return string(out)
}

// spoilNode changes the strings below a node, keys excepted.
func spoilNode(n *yaml.Node, text func(string) string) {
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!str" {
		n.Value, n.Style = strings.ToValidUTF8(text(n.Value), "\uFFFD"), yaml.DoubleQuotedStyle
	}

	for i, child := range n.Content {
		if n.Kind != yaml.MappingNode || i%2 == 1 {
			spoilNode(child, text)
		}
	}
}
