//! Records of the order topics, field for field as in `schemas/avro/order_*.avsc`.

mod body;
mod drop_row;
mod intent;
mod order_row;
mod refusal;

pub use body::*;
pub use drop_row::*;
pub use intent::*;
pub use order_row::*;
pub use refusal::*;
