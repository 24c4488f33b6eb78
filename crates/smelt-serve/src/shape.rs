//! The shape that an answer must have: `response_format`, and vLLM's `guided_json` and `guided_regex`.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::ApiError;
use crate::request::{take, typed};

/// Names of the fields that ask for a shape.
const SHAPE_FIELDS: [&str; 3] = ["response_format", "guided_json", "guided_regex"];

/// What an answer must look like.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// Anything.
    Text,
    /// Any JSON object.
    JsonObject,
    /// JSON that fits the schema; the field that asks for it.
    JsonSchema(Value, &'static str),
    /// Text that fits the regular expression.
    Regex(String),
}

/// The fields that ask for a shape, of which one at most is there.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShapeFields {
    response_format: Option<ResponseFormat>,
    guided_json: Option<Value>,
    guided_regex: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum ResponseFormat {
    Text {},
    JsonObject {},
    JsonSchema { json_schema: NamedSchema },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedSchema {
    #[serde(rename = "name")]
    _name: String,
    #[serde(rename = "description")]
    _description: Option<String>,
    schema: Value,
    /// The schema is enforced in either case.
    #[serde(rename = "strict")]
    _strict: Option<bool>,
}

impl ShapeFields {
    /// Takes the fields out of a request's.
    ///
    /// # Errors
    /// [`ApiError`] naming the field.
    pub fn take(fields: &mut Map<String, Value>) -> Result<Shape, ApiError> {
        let fields: Self = typed(take(fields, &SHAPE_FIELDS))?;
        let asked =
            [fields.response_format.is_some(), fields.guided_json.is_some(), fields.guided_regex.is_some()];
        if asked.iter().filter(|asked| **asked).count() > 1 {
            return Err(ApiError::invalid(
                "response_format",
                "give one of `response_format`, `guided_json`, `guided_regex`",
            ));
        }
        if let Some(schema) = fields.guided_json {
            return Ok(Shape::JsonSchema(schema, "guided_json"));
        }
        if let Some(regex) = fields.guided_regex {
            return Ok(Shape::Regex(regex));
        }
        Ok(match fields.response_format {
            None | Some(ResponseFormat::Text {}) => Shape::Text,
            Some(ResponseFormat::JsonObject {}) => Shape::JsonObject,
            Some(ResponseFormat::JsonSchema { json_schema }) => {
                Shape::JsonSchema(json_schema.schema, "response_format.json_schema.schema")
            }
        })
    }
}

impl Shape {
    /// Whether it leaves anything out.
    pub fn is_constrained(&self) -> bool {
        *self != Self::Text
    }

    /// The field that asked for it.
    pub fn param(&self) -> &'static str {
        match self {
            Self::Text | Self::JsonObject => "response_format",
            Self::JsonSchema(_, param) => param,
            Self::Regex(_) => "guided_regex",
        }
    }
}
