//! The requests of a call, for `doctor --report`: paths, statuses and the names of fields, never a
//! value. Nothing is recorded unless it is asked for.

use std::cell::RefCell;

/// One request that was answered.
#[derive(Clone, Debug)]
pub struct Exchange {
    pub method: &'static str,
    /// Without the query.
    pub path: String,
    pub status: u16,
    /// The fields of the answer's JSON, each with the kind of its value.
    pub fields: Vec<(String, &'static str)>,
}

#[derive(Default)]
pub struct RequestLog(RefCell<Option<Vec<Exchange>>>);

impl RequestLog {
    pub fn begin(&self) {
        self.0.borrow_mut().get_or_insert_default();
    }

    pub fn record(&self, exchange: impl FnOnce() -> Exchange) {
        if let Some(known) = self.0.borrow_mut().as_mut() {
            known.push(exchange());
        }
    }

    pub fn take(&self) -> Vec<Exchange> {
        self.0.take().unwrap_or_default()
    }
}
