//! Filters and pages, which all `Describe…` actions share.

use wildmatch::WildMatch;

use super::super::form::Form;
use super::error::Ec2Error;
use super::tags::TagMap;

/// The filters of a call: all must hold.
#[derive(Debug)]
pub(super) struct Filters(Vec<Filter>);

#[derive(Debug)]
struct Filter {
    name: String,
    /// With `*` and `?`; one of them must match.
    values: Vec<WildMatch>,
}

impl Filters {
    pub(super) fn parse(form: &Form) -> Result<Self, Ec2Error> {
        form.list("Filter")
            .into_iter()
            .map(|filter| {
                let name = filter
                    .text("Name")
                    .ok_or_else(|| Ec2Error::missing("Filter.Name"))?;
                Ok(Filter {
                    name: name.to_owned(),
                    values: filter
                        .texts("Value")
                        .into_iter()
                        .map(WildMatch::new)
                        .collect(),
                })
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether something passes. `of` gives its values under a filter's name,
    /// or nothing for a name that does not exist; tags are looked up here.
    pub(super) fn admit(
        &self,
        tags: &TagMap,
        of: impl Fn(&str) -> Option<Vec<String>>,
    ) -> Result<bool, Ec2Error> {
        for filter in &self.0 {
            let values = tag_values(&filter.name, tags)
                .or_else(|| of(&filter.name))
                .ok_or_else(|| {
                    Ec2Error::new(
                        "InvalidParameterValue",
                        format!("The filter '{}' is invalid", filter.name),
                    )
                })?;
            let holds = |value: &String| filter.values.iter().any(|wanted| wanted.matches(value));
            if !values.iter().any(holds) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The items that pass.
    pub(super) fn keep<T>(
        &self,
        items: impl IntoIterator<Item = T>,
        admit: impl Fn(&Self, &T) -> Result<bool, Ec2Error>,
    ) -> Result<Vec<T>, Ec2Error> {
        items
            .into_iter()
            .filter_map(|item| match admit(self, &item) {
                Ok(true) => Some(Ok(item)),
                Ok(false) => None,
                Err(error) => Some(Err(error)),
            })
            .collect()
    }
}

fn tag_values(name: &str, tags: &TagMap) -> Option<Vec<String>> {
    match name.split_once(':') {
        Some(("tag", key)) => Some(tags.get(key).cloned().into_iter().collect()),
        _ if name == "tag-key" => Some(tags.keys().cloned().collect()),
        _ => None,
    }
}

/// One page of a longer list.
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    pub(super) next: Option<String>,
}

/// Cuts the page that the call asks for. `mark` orders the items and is what
/// the token of the next page remembers, so that a page neither repeats nor
/// skips what stays while other items come and go.
pub(super) fn page<T>(
    items: Vec<T>,
    form: &Form,
    mark: impl Fn(&T) -> u64,
) -> Result<Page<T>, Ec2Error> {
    let after = match form.text("NextToken") {
        None | Some("") => None,
        Some(token) => Some(
            token
                .strip_prefix("after-")
                .and_then(|mark| u64::from_str_radix(mark, 16).ok())
                .ok_or_else(|| {
                    Ec2Error::new("InvalidNextToken", format!("invalid token '{token}'"))
                })?,
        ),
    };
    let limit = match form.parsed::<usize>("MaxResults")? {
        None => usize::MAX,
        Some(limit @ 5..=1000) => limit,
        Some(other) => return Err(Ec2Error::invalid("MaxResults", &other.to_string())),
    };
    let mut items: Vec<T> = items
        .into_iter()
        .filter(|item| after.is_none_or(|after| mark(item) > after))
        .collect();
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items
        .last()
        .filter(|_| more)
        .map(|item| format!("after-{:x}", mark(item)));
    Ok(Page { items, next })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_continue_where_they_ended() {
        let items = || (1..=12).collect::<Vec<u64>>();
        let first = page(items(), &Form::parse(b"MaxResults=5").unwrap(), |n| *n).unwrap();
        assert_eq!(first.items, [1, 2, 3, 4, 5]);
        let query = format!("MaxResults=7&NextToken={}", first.next.unwrap());
        let second = page(items(), &Form::parse(query.as_bytes()).unwrap(), |n| *n).unwrap();
        assert_eq!(second.items, (6..=12).collect::<Vec<_>>());
        assert_eq!(second.next, None);
        assert!(page(items(), &Form::parse(b"NextToken=x").unwrap(), |n| *n).is_err());
        assert!(page(items(), &Form::parse(b"MaxResults=4").unwrap(), |n| *n).is_err());
    }

    #[test]
    fn filters_hold_together() {
        let form = Form::parse(
            b"Filter.1.Name=tag:pool&Filter.1.Value.1=a*&Filter.2.Name=colour&Filter.2.Value.1=red&Filter.2.Value.2=blue",
        )
        .unwrap();
        let filters = Filters::parse(&form).unwrap();
        let tags = TagMap::from([("pool".to_owned(), "abc".to_owned())]);
        let of = |colour: &'static str| {
            move |name: &str| (name == "colour").then(|| vec![colour.to_owned()])
        };
        assert_eq!(filters.admit(&tags, of("blue")), Ok(true));
        assert_eq!(filters.admit(&tags, of("green")), Ok(false));
        assert_eq!(filters.admit(&TagMap::new(), of("blue")), Ok(false));
        assert!(filters.admit(&tags, |_| None).is_err());
    }
}
