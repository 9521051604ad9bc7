//! How SQS says no.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// A refusal of SQS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SqsError {
    QueueDoesNotExist,
    QueueNameExists(String),
    QueueDeletedRecently,
    InvalidAttributeName(String),
    InvalidAttributeValue(String),
    InvalidParameterValue(String),
    MissingParameter(String),
    TooManyEntriesInBatchRequest(usize),
    EmptyBatchRequest,
    BatchEntryIdsNotDistinct(String),
    ReceiptHandleIsInvalid(String),
    MessageNotInflight,
    OverLimit,
    UnsupportedOperation(String),
    Serialization(String),
    UnknownOperation(String),
}

impl SqsError {
    /// The shape's name in the model, as `__type` carries it.
    pub(super) fn shape(&self) -> &'static str {
        match self {
            Self::QueueDoesNotExist => "com.amazonaws.sqs#QueueDoesNotExist",
            Self::QueueNameExists(_) => "com.amazonaws.sqs#QueueNameExists",
            Self::QueueDeletedRecently => "com.amazonaws.sqs#QueueDeletedRecently",
            Self::InvalidAttributeName(_) => "com.amazonaws.sqs#InvalidAttributeName",
            Self::InvalidAttributeValue(_) => "com.amazonaws.sqs#InvalidAttributeValue",
            Self::InvalidParameterValue(_) => "com.amazonaws.sqs#InvalidParameterValueException",
            Self::MissingParameter(_) => "com.amazonaws.sqs#MissingRequiredParameterException",
            Self::TooManyEntriesInBatchRequest(_) => {
                "com.amazonaws.sqs#TooManyEntriesInBatchRequest"
            }
            Self::EmptyBatchRequest => "com.amazonaws.sqs#EmptyBatchRequest",
            Self::BatchEntryIdsNotDistinct(_) => "com.amazonaws.sqs#BatchEntryIdsNotDistinct",
            Self::ReceiptHandleIsInvalid(_) => "com.amazonaws.sqs#ReceiptHandleIsInvalid",
            Self::MessageNotInflight => "com.amazonaws.sqs#MessageNotInflight",
            Self::OverLimit => "com.amazonaws.sqs#OverLimit",
            Self::UnsupportedOperation(_) => "com.amazonaws.sqs#UnsupportedOperation",
            Self::Serialization(_) => "com.amazon.coral.service#SerializationException",
            Self::UnknownOperation(_) => "com.amazon.coral.service#UnknownOperationException",
        }
    }

    /// The code that older clients of the query protocol know.
    pub(super) fn query_code(&self) -> &'static str {
        match self {
            Self::QueueDoesNotExist => "AWS.SimpleQueueService.NonExistentQueue",
            Self::QueueNameExists(_) => "QueueAlreadyExists",
            Self::QueueDeletedRecently => "AWS.SimpleQueueService.QueueDeletedRecently",
            Self::InvalidAttributeName(_) => "InvalidAttributeName",
            Self::InvalidAttributeValue(_) => "InvalidAttributeValue",
            Self::InvalidParameterValue(_) => "InvalidParameterValue",
            Self::MissingParameter(_) => "MissingParameter",
            Self::TooManyEntriesInBatchRequest(_) => {
                "AWS.SimpleQueueService.TooManyEntriesInBatchRequest"
            }
            Self::EmptyBatchRequest => "AWS.SimpleQueueService.EmptyBatchRequest",
            Self::BatchEntryIdsNotDistinct(_) => "AWS.SimpleQueueService.BatchEntryIdsNotDistinct",
            Self::ReceiptHandleIsInvalid(_) => "ReceiptHandleIsInvalid",
            Self::MessageNotInflight => "AWS.SimpleQueueService.MessageNotInflight",
            Self::OverLimit => "OverLimit",
            Self::UnsupportedOperation(_) => "AWS.SimpleQueueService.UnsupportedOperation",
            Self::Serialization(_) => "SerializationException",
            Self::UnknownOperation(_) => "InvalidAction",
        }
    }

    fn message(&self) -> String {
        match self {
            Self::QueueDoesNotExist => "The specified queue does not exist.".to_owned(),
            Self::QueueNameExists(attribute) => format!(
                "A queue already exists with the same name and a different value for attribute {attribute}"
            ),
            Self::QueueDeletedRecently => "You must wait 60 seconds after deleting a queue \
                before you can create another with the same name."
                .to_owned(),
            Self::InvalidAttributeName(name) => format!("Unknown Attribute {name}."),
            Self::InvalidAttributeValue(name) => {
                format!("Invalid value for the parameter {name}.")
            }
            Self::MissingParameter(name) => {
                format!("The request must contain the parameter {name}.")
            }
            Self::TooManyEntriesInBatchRequest(count) => {
                format!("Maximum number of entries per request are 10. You have sent {count}.")
            }
            Self::EmptyBatchRequest => {
                "There should be at least one entry in the request.".to_owned()
            }
            Self::BatchEntryIdsNotDistinct(id) => format!("Id {id} repeated."),
            Self::ReceiptHandleIsInvalid(handle) => {
                format!("The input receipt handle \"{handle}\" is not a valid receipt handle.")
            }
            Self::MessageNotInflight => {
                "The message referred to is not available for visibility timeout change.".to_owned()
            }
            Self::OverLimit => "Too many messages in flight.".to_owned(),
            Self::InvalidParameterValue(why)
            | Self::UnsupportedOperation(why)
            | Self::Serialization(why) => why.clone(),
            Self::UnknownOperation(action) => format!("The action {action} is not valid."),
        }
    }

    /// The failure of one entry of a batch.
    pub(super) fn entry(&self, id: &str) -> Value {
        json!({
            "Id": id,
            "Code": self.query_code(),
            "SenderFault": true,
            "Message": self.message(),
        })
    }
}

impl IntoResponse for SqsError {
    fn into_response(self) -> Response {
        let body = json!({ "__type": self.shape(), "message": self.message() });
        (
            StatusCode::BAD_REQUEST,
            [
                (
                    header::CONTENT_TYPE.as_str(),
                    "application/x-amz-json-1.0".to_owned(),
                ),
                (
                    "x-amzn-query-error",
                    format!("{};Sender", self.query_code()),
                ),
            ],
            body.to_string(),
        )
            .into_response()
    }
}
