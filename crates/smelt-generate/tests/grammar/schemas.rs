//! Arbitrary schemas, and what fits them: a small validator of its own, for the keywords that come up here.

use proptest::prelude::*;
use regex::Regex;
use serde_json::{Map, Value, json};
use smelt_generate::Grammar;

use crate::writing::{NAMES, writer};

/// How `value` fails `schema`, whose references lead into `root`.
pub fn violation(root: &Value, schema: &Value, value: &Value) -> Option<String> {
    let wrong = |what: &str| Some(format!("{value} against {what} of {schema}"));
    if let Some(reference) = schema["$ref"].as_str() {
        let target = root.pointer(reference.strip_prefix('#').unwrap()).unwrap();
        return violation(root, target, value);
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        let fits = choices.iter().any(|choice| violation(root, choice, value).is_none());
        return if fits { None } else { wrong("anyOf") };
    }
    if let Some(values) = schema["enum"].as_array() {
        return if values.contains(value) { None } else { wrong("enum") };
    }
    if let Some(only) = schema.get("const") {
        return if value == only { None } else { wrong("const") };
    }
    match schema["type"].as_str() {
        Some("null") => (!value.is_null()).then(|| wrong("type")).flatten(),
        Some("boolean") => (!value.is_boolean()).then(|| wrong("type")).flatten(),
        Some("integer") if !value.is_i64() && !value.is_u64() => wrong("type"),
        Some("number") if !value.is_number() => wrong("type"),
        Some("integer" | "number") => {
            let number = value.as_f64().unwrap();
            let low = schema["minimum"].as_f64().is_some_and(|least| number < least);
            let high = schema["maximum"].as_f64().is_some_and(|most| number > most);
            if low || high { wrong("bounds") } else { None }
        }
        Some("string") => string_violation(schema, value),
        Some("array") => {
            let Some(items) = value.as_array() else { return wrong("type") };
            let count = items.len() as u64;
            let few = schema["minItems"].as_u64().is_some_and(|least| count < least);
            if few || schema["maxItems"].as_u64().is_some_and(|most| count > most) {
                return wrong("number of items");
            }
            items.iter().find_map(|item| violation(root, &schema["items"], item))
        }
        Some("object") => object_violation(root, schema, value),
        _ => None,
    }
}

fn string_violation(schema: &Value, value: &Value) -> Option<String> {
    let text = value.as_str();
    let fits = text.is_some_and(|text| {
        let length = text.chars().count() as u64;
        schema["minLength"].as_u64().is_none_or(|least| length >= least)
            && schema["maxLength"].as_u64().is_none_or(|most| length <= most)
            && schema["pattern"].as_str().is_none_or(|pattern| Regex::new(pattern).unwrap().is_match(text))
    });
    (!fits).then(|| format!("{value} against {schema}"))
}

fn object_violation(root: &Value, schema: &Value, value: &Value) -> Option<String> {
    let Some(keys) = value.as_object() else { return Some(format!("{value} against {schema}")) };
    let required = schema["required"].as_array().into_iter().flatten();
    let missing = required.filter_map(Value::as_str).find(|key| !keys.contains_key(*key));
    if let Some(key) = missing {
        return Some(format!("{value} lacks {key}"));
    }
    keys.iter().find_map(|(key, value)| match schema["properties"].get(key) {
        Some(schema) => violation(root, schema, value),
        None if schema["additionalProperties"] == false => Some(format!("{key} is not in {schema}")),
        None => None,
    })
}

fn any_schema() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!({"type": "null"})),
        Just(json!({"type": "boolean"})),
        (-200i32..200, 0i32..400)
            .prop_map(|(low, span)| json!({"type": "integer", "minimum": low, "maximum": low + span})),
        (-9i32..9, 1i32..9)
            .prop_map(|(low, span)| json!({"type": "number", "minimum": low, "maximum": low + span})),
        (0u8..4, 0u8..6).prop_map(
            |(least, more)| json!({"type": "string", "minLength": least, "maxLength": least + more})
        ),
        Just(json!({"type": "string", "pattern": "^[a-c]{1,3}-[0-9]+$"})),
        prop::collection::vec(prop_oneof![Just(json!("x\"y")), Just(json!(1.5)), Just(json!("ü\n"))], 1..3)
            .prop_map(|values| json!({"enum": values})),
        Just(json!({"const": {"a": [1, "z"]}})),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            (inner.clone(), 0u8..2, 0u8..3).prop_map(|(items, least, more)| {
                json!({"type": "array", "items": items, "minItems": least, "maxItems": least + more})
            }),
            prop::collection::vec(inner.clone(), 1..3).prop_map(|choices| json!({"anyOf": choices})),
            (prop::collection::btree_map("[a-c\" é]{1,3}", inner, 0..3), any::<bool>()).prop_map(
                |(keys, all)| {
                    let required: Vec<&String> = if all { keys.keys().collect() } else { Vec::new() };
                    let properties: Map<String, Value> = keys.clone().into_iter().collect();
                    json!({
                        "type": "object", "properties": properties, "required": required,
                        "additionalProperties": false,
                    })
                }
            ),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn texts_fit_arbitrary_schemas(
        schema in any_schema(),
        name in prop::sample::select(&NAMES[..]),
        seed in any::<u64>(),
    ) {
        let written = writer(name).write(&Grammar::json_schema(&schema), seed, 250).unwrap();
        if written.ended {
            let value: Value = serde_json::from_str(&written.text).unwrap();
            prop_assert_eq!(violation(&schema, &schema, &value), None, "{}", written.text);
        }
    }
}
