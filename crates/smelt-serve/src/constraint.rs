//! The shape of an answer as the engine is told it.

use smelt_generate::Grammar;
use smelt_generate::engine::CompletionOptions;

use crate::app::{App, Model};
use crate::error::ApiError;
use crate::shape::Shape;

/// `options` with the grammar of `shape`.
///
/// # Errors
/// [`ApiError`] for a schema or an expression that cannot be kept to, naming its field.
pub fn constrain(
    app: &App,
    options: CompletionOptions,
    shape: &Shape,
    model: Model<'_>,
) -> Result<CompletionOptions, ApiError> {
    let grammar = match shape {
        Shape::Text => return Ok(options),
        Shape::JsonObject => Grammar::json_object(),
        Shape::JsonSchema(schema, _) => Grammar::json_schema(schema),
        Shape::Regex(pattern) => Grammar::regex(pattern),
    };
    let compiled = app.compiler(model.index)?.compile(&grammar);
    let constraint = compiled.map_err(|error| ApiError::invalid(shape.param(), error.to_string()))?;
    Ok(CompletionOptions { constraint: Some(constraint), ..options })
}
