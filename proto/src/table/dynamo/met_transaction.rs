//! Repeats writes that met a transaction.

use aws_sdk_dynamodb::{
    config::{
        interceptors::InterceptorContext,
        retry::{ClassifyRetry, RetryAction},
    },
    error::ProvideErrorMetadata,
    operation::update_item::UpdateItemError,
};

/// A write that meets another program's transaction on the same item is refused for that moment,
/// which the SDK does not repeat by itself.
#[derive(Debug)]
pub(super) struct MetTransaction;

impl ClassifyRetry for MetTransaction {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let error = context.output_or_error().and_then(Result::err);
        let code = error
            .and_then(|error| error.as_operation_error())
            .and_then(|error| error.downcast_ref::<UpdateItemError>())
            .and_then(ProvideErrorMetadata::code);
        if code == Some("TransactionConflictException") {
            RetryAction::transient_error()
        } else {
            RetryAction::NoActionIndicated
        }
    }

    fn name(&self) -> &'static str {
        "met a transaction"
    }
}
