//! CloudWatch: takes values and keeps them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::http::StatusCode;
use axum::response::Response;

use super::form::Form;
use super::service::{Request, request_id, xml_answer};
use super::xml::Xml;

/// A call may bring so many values.
const A_CALL: usize = 1000;
/// A value may have so many dimensions.
const DIMENSIONS: usize = 30;

/// A value that was published.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// `<namespace>/<metric>`
    pub metric: String,
    /// Names and values.
    pub dimensions: BTreeMap<String, String>,
    /// The value.
    pub value: f64,
    /// Its unit.
    pub unit: String,
}

/// The service.
#[derive(Default)]
pub(super) struct CloudWatch(Mutex<Vec<Value>>);

impl CloudWatch {
    pub(super) fn values(&self) -> Vec<Value> {
        self.lock().clone()
    }

    pub(super) fn answer(&self, request: &Request) -> Response {
        if request.action != "PutMetricData" {
            let message = format!("The action {} is not valid.", request.action);
            return request.refuse(StatusCode::BAD_REQUEST, "InvalidAction", &message);
        }
        let form = Form::parse(&request.body).ok();
        let Some(values) = form.as_ref().and_then(read) else {
            let words = "A value lacks what it must have, or there are too many.";
            return request.refuse(StatusCode::BAD_REQUEST, "InvalidParameterValue", words);
        };
        self.lock().extend(values);
        let body = Xml::of(|xml| {
            xml.node("PutMetricDataResponse", |xml| {
                xml.node("ResponseMetadata", |xml| {
                    xml.text("RequestId", request_id());
                });
            });
        });
        xml_answer(StatusCode::OK, body)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Value>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a call brings; none when it is not as CloudWatch wants it.
fn read(form: &Form) -> Option<Vec<Value>> {
    let namespace = form.text("Namespace").filter(|name| !name.is_empty())?;
    let count = members(form.get("MetricData")?, A_CALL)?;
    (1..=count)
        .map(|number| {
            let datum = form.get(&format!("MetricData.member.{number}"))?;
            let dimensions = members(datum.get("Dimensions")?, DIMENSIONS)?;
            let dimensions = (1..=dimensions).map(|number| {
                let field = |field| datum.text(&format!("Dimensions.member.{number}.{field}"));
                Some((field("Name")?.to_owned(), field("Value")?.to_owned()))
            });
            let value: f64 = datum.parsed("Value").ok()??;
            let at: Option<jiff::Timestamp> = datum.parsed("Timestamp").ok()?;
            let unit = datum
                .text("Unit")
                .filter(|unit| ["Count", "Seconds"].contains(unit));
            (value.is_finite() && at.is_some()).then_some(Value {
                metric: format!("{namespace}/{}", datum.text("MetricName")?),
                dimensions: dimensions.collect::<Option<_>>()?,
                value,
                unit: unit?.to_owned(),
            })
        })
        .collect()
}

/// How long a list is; none when it is empty or longer than `most`.
fn members(list: &Form, most: usize) -> Option<usize> {
    let count = (1..=most + 1)
        .take_while(|number| list.get(&format!("member.{number}")).is_some())
        .count();
    (1..=most).contains(&count).then_some(count)
}
