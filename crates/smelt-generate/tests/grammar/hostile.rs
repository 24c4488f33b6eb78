//! Grammars from anywhere: none panics or takes for ever, whatever it says.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::{Value, json};
use smelt_generate::{Grammar, GrammarCompiler};

use crate::writing::{NAMES, writer};

/// Compiles and writes a little; errors are fine.
fn try_out(grammar: &Grammar) {
    let started = Instant::now();
    let _ = writer(NAMES[0]).write(grammar, 1, 20);
    let elapsed = started.elapsed();
    assert!(elapsed < Duration::from_secs(60), "{elapsed:?}");
}

#[test]
fn explosive_grammars_are_bounded() {
    let nested =
        (0..100).fold(json!({"type": "string"}), |inner, _| json!({"type": "array", "items": inner}));
    let wide: Vec<Value> = (0..2000).map(|index| json!({"const": format!("choice {index}")})).collect();
    let optional: serde_json::Map<String, Value> =
        (0..300).map(|index| (format!("key{index}"), json!({"type": "integer"}))).collect();
    let grammars = [
        Grammar::regex("((a{1,1000}){1,1000}){1,1000}"),
        Grammar::regex("(.*.*.*.*.*.*.*.*)*x{500}"),
        Grammar::regex("(a|aa)*(a?){300}a{300}"),
        Grammar::regex(&"(".repeat(5000)),
        Grammar::regex(&format!("{}a{}", "(".repeat(5000), ")".repeat(5000))),
        Grammar::regex(&format!("{}a{}", "(?:".repeat(200), ")*".repeat(200))),
        Grammar::regex(r"[\p{L}\p{N}]{100}&[^a]{1000}"),
        Grammar::lark("start: start start | \"a\""),
        Grammar::lark("start: start"),
        Grammar::lark("start: a a a a a a a a\na: b b b b b b b b\nb: c c c c c c c c\nc: \"\" | \"x\""),
        Grammar::lark(&format!("start: {}\"a\"{}", "(".repeat(20_000), ")".repeat(20_000))),
        Grammar::lark(&"start: ".repeat(20_000)),
        Grammar::json_schema(&nested),
        Grammar::json_schema(&json!({"anyOf": wide})),
        Grammar::json_schema(&json!({"type": "object", "properties": optional})),
        Grammar::json_schema(&json!({"$ref": "#"})),
        Grammar::json_schema(
            &json!({"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"allOf": [{"$ref": "#"}]}}}),
        ),
        Grammar::json_schema(
            &json!({"type": "array", "minItems": 1_000_000_000, "items": {"type": "array"}}),
        ),
        Grammar::json_schema(&json!({"type": "string", "minLength": 1_000_000})),
        Grammar::json_schema(&json!({"type": "string", "pattern": "(a+)+$"})),
        Grammar::json_schema(&json!({"type": "integer", "multipleOf": 0.000_000_1, "minimum": 1e300})),
        Grammar::json_schema(&json!({"x-guidance": {"whitespace_pattern": "("}})),
    ];
    for grammar in &grammars {
        try_out(grammar);
    }
}

/// Deeper than any text that serde_json parses, but a caller may build it.
#[test]
fn a_schema_may_be_deep() {
    let deep = (0..127).fold(json!({"type": "null"}), |inner, _| json!({"properties": {"a": inner}}));
    try_out(&Grammar::json_schema(&deep));
    let deep =
        (0..127).fold(json!({"type": "null"}), |inner, _| json!({"anyOf": [inner, {"allOf": [true]}]}));
    try_out(&Grammar::json_schema(&deep));
}

fn any_value() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "type",
        "object",
        "array",
        "string",
        "number",
        "integer",
        "properties",
        "required",
        "items",
        "prefixItems",
        "anyOf",
        "oneOf",
        "allOf",
        "not",
        "$ref",
        "#",
        "#/$defs/a",
        "$defs",
        "a",
        "enum",
        "const",
        "pattern",
        "^a+$",
        "format",
        "date-time",
        "uuid",
        "ipv6",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "multipleOf",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "additionalProperties",
        "patternProperties",
        "x-guidance",
        "lenient",
    ]);
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|flag| json!(flag)),
        (-5i64..40).prop_map(|number| json!(number)),
        any::<f64>().prop_map(|number| json!(number)),
        word.clone().prop_map(|word| json!(word)),
        "\\PC{0,4}".prop_map(|text| json!(text)),
    ];
    leaf.prop_recursive(5, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(word.clone().prop_map(str::to_owned), inner, 0..5)
                .prop_map(|keys| Value::Object(keys.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_schema_panics(schema in any_value()) {
        try_out(&Grammar::json_schema(&schema));
    }

    #[test]
    fn no_expression_panics(
        parts in prop::collection::vec("[a-c]|\\(|\\)|\\[|\\]|\\{1,9\\}|[*+?|.^$&~]|\\\\[pPdDwWsSbBAzxu]|\\PC|\\{L\\}|\\(\\?[imsx]", 0..14),
    ) {
        try_out(&Grammar::regex(&parts.concat()));
    }

    #[test]
    fn no_grammar_panics(
        parts in prop::collection::vec(
            "start:|[a-cA-C]:|[a-cA-C]|\"[a-c]*\"|/[a-c]*/|[|*+?()\\[\\]~.\n]|%ignore|%import|%json \\{\\}|%regex|\\[[a-z]+=[0-9]\\]|<.>|\\PC",
            0..20,
        ),
    ) {
        try_out(&Grammar::lark(&parts.join(" ")));
    }
}

#[test]
fn vocabularies_without_bytes_are_no_panic() {
    for name in ["tokenizer_wordpiece", "tokenizer_unigram"] {
        let tokenizer = smelt_text::Tokenizer::from_folder(&smelt_testkit::golden_folder(name)).unwrap();
        let compiler = GrammarCompiler::new(&tokenizer, &[]).unwrap();
        let mut constraint = compiler.compile(&Grammar::regex("[a-z]+")).unwrap();
        assert!(constraint.allowed().unwrap().ids().count() > 10, "{name}");
    }
}
