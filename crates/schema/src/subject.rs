//! Subjects: the names under which a registry keeps schemas.

/// The topic whose access rules count for a subject: `orders-value` and `orders-key` are of `orders`
/// (TopicNameStrategy), any other subject is of a topic by its own name.
pub fn topic_of_subject(subject: &str) -> &str {
    let stripped = subject.strip_suffix("-value").or_else(|| subject.strip_suffix("-key"));
    stripped.filter(|topic| !topic.is_empty()).unwrap_or(subject)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_of_its_topic() {
        assert_eq!(topic_of_subject("orders-value"), "orders");
        assert_eq!(topic_of_subject("orders-key"), "orders");
        assert_eq!(topic_of_subject("com.example.Order"), "com.example.Order");
        assert_eq!(topic_of_subject("-value"), "-value");
    }
}
