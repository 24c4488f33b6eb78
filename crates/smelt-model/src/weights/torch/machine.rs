//! Runs the pickle of a state dict, without the power to do anything.
//!
//! A pickle is bounded by its length: each instruction takes a byte at least and makes at most one object,
//! and all that outlives the stack has a limit far above what models need.

use std::collections::HashMap;

use safetensors::Dtype;

use super::instructions::{Instruction, Reader};
use super::value::{Global, Object, Objects, Storage, Value, View};

/// Bytes of a pickle; 18 000 tensors, as of a mixture of 128 experts in 48 layers, take 3 MB.
const PICKLE_BYTES: usize = 1 << 26;
/// Values on the stack; Python's pickler puts 2000 there at most.
const STACK: usize = 1 << 16;
/// Marks that are open at once.
const MARKS: usize = 1 << 10;
/// Objects in all.
const OBJECTS: usize = 1 << 22;
/// Values that are remembered for later.
const REMEMBERED: usize = 1 << 22;
/// Dimensions of a tensor.
const DIMENSIONS: usize = 16;
/// Arguments of a call; PyTorch's functions take 8 at most.
const ARGUMENTS: usize = 16;

/// The objects that `pickle` describes; the error says what it does wrong, without a subject.
pub(super) fn run(pickle: &[u8]) -> Result<Objects<'_>, String> {
    if pickle.len() > PICKLE_BYTES {
        return Err(format!("has {} bytes, the most is {PICKLE_BYTES}", pickle.len()));
    }
    let mut reader = Reader::new(pickle);
    let mut machine = Machine::default();
    loop {
        match reader.next()? {
            Instruction::Stop => break,
            instruction => machine.step(instruction)?,
        }
    }
    let root = machine.pop()?;
    Ok(Objects { all: machine.objects, root })
}

#[derive(Default)]
struct Machine<'a> {
    stack: Vec<Value<'a>>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memory: HashMap<u32, Value<'a>>,
    objects: Vec<Object<'a>>,
}

impl<'a> Machine<'a> {
    fn step(&mut self, instruction: Instruction<'a>) -> Result<(), String> {
        match instruction {
            Instruction::Nothing | Instruction::Stop => Ok(()),
            Instruction::Push(value) => self.push(value),
            Instruction::EmptyTuple | Instruction::EmptyList => self.create(Object::Sequence(Vec::new())),
            Instruction::EmptyDict => self.create(Object::Dict(Vec::new())),
            Instruction::Mark => self.mark(),
            Instruction::Pop => self.pop().map(drop),
            Instruction::PopMark => self.pop_to_mark().map(drop),
            Instruction::Duplicate => self.top().and_then(|top| self.push(top)),
            Instruction::SequenceToMark => {
                let values = self.pop_to_mark()?;
                self.create(Object::Sequence(values))
            }
            Instruction::Tuple(length) => {
                let values = self.pop_many(length)?;
                self.create(Object::Sequence(values))
            }
            Instruction::DictToMark => {
                let entries = pairs(&self.pop_to_mark()?)?;
                self.create(Object::Dict(entries))
            }
            Instruction::Append => {
                let value = self.pop()?;
                self.append(&[value])
            }
            Instruction::AppendToMark => {
                let values = self.pop_to_mark()?;
                self.append(&values)
            }
            Instruction::SetItem => {
                let entry = self.pop_many(2)?;
                self.set(&entry)
            }
            Instruction::SetItemsToMark => {
                let entries = self.pop_to_mark()?;
                self.set(&entries)
            }
            Instruction::Remember(index) => self.remember(index),
            Instruction::RememberNext => self.remember(self.memory.len() as u32),
            Instruction::Recall(index) => self.recall(index),
            Instruction::Global(module, name) => self.name(module, name),
            Instruction::GlobalFromStack => match self.pop_many(2)?[..] {
                [Value::Text(module), Value::Text(name)] => self.name(module, name),
                _ => Err("names something that is no text".to_owned()),
            },
            Instruction::Reduce => self.reduce(),
            Instruction::Build => self.drop_attributes(),
            Instruction::PersistentId => self.storage(),
        }
    }

    fn push(&mut self, value: Value<'a>) -> Result<(), String> {
        if self.stack.len() >= STACK {
            return Err(format!("puts more than {STACK} values on its stack"));
        }
        self.stack.push(value);
        Ok(())
    }

    fn create(&mut self, object: Object<'a>) -> Result<(), String> {
        if self.objects.len() >= OBJECTS {
            return Err(format!("makes more than {OBJECTS} objects"));
        }
        self.objects.push(object);
        self.push(Value::Object(self.objects.len() - 1))
    }

    fn mark(&mut self) -> Result<(), String> {
        if self.marks.len() >= MARKS {
            return Err(format!("nests more than {MARKS} objects"));
        }
        self.marks.push(self.stack.len());
        Ok(())
    }

    /// The height under which the stack belongs to what is built around.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or_default()
    }

    fn top(&self) -> Result<Value<'a>, String> {
        let above = self.stack.get(self.floor()..).unwrap_or_default();
        above.last().copied().ok_or_else(too_little)
    }

    fn pop(&mut self) -> Result<Value<'a>, String> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Value<'a>>, String> {
        let start = self.stack.len().checked_sub(count).filter(|start| *start >= self.floor());
        Ok(self.stack.split_off(start.ok_or_else(too_little)?))
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value<'a>>, String> {
        let height = self.marks.pop().ok_or_else(too_little)?;
        Ok(self.stack.split_off(height))
    }

    fn append(&mut self, values: &[Value<'a>]) -> Result<(), String> {
        match self.top_object()? {
            Object::Sequence(list) => list.extend(values),
            _ => return Err("appends to what is no list".to_owned()),
        }
        Ok(())
    }

    fn set(&mut self, entries: &[Value<'a>]) -> Result<(), String> {
        let entries = pairs(entries)?;
        match self.top_object()? {
            Object::Dict(dict) => dict.extend(entries),
            _ => return Err("sets entries of what is no dict".to_owned()),
        }
        Ok(())
    }

    fn remember(&mut self, index: u32) -> Result<(), String> {
        if self.memory.len() >= REMEMBERED {
            return Err(format!("remembers more than {REMEMBERED} values"));
        }
        let top = self.top()?;
        self.memory.insert(index, top);
        Ok(())
    }

    fn recall(&mut self, index: u32) -> Result<(), String> {
        let value = self.memory.get(&index).copied();
        self.push(value.ok_or("recalls what it never remembered")?)
    }

    fn name(&mut self, module: &str, name: &str) -> Result<(), String> {
        let global = Global::find(module, name);
        let shown = |text: &str| text.chars().take(80).collect::<String>();
        let refused = || {
            format!("wants `{}.{}`, which no state dict needs; it was not run", shown(module), shown(name))
        };
        self.push(Value::Global(global.ok_or_else(refused)?))
    }

    /// What a call would have made.
    fn reduce(&mut self) -> Result<(), String> {
        let arguments = self.pop()?;
        let Value::Global(function) = self.pop()? else {
            return Err("calls what is no function".to_owned());
        };
        self.call(function, arguments)
    }

    fn call(&mut self, function: Global, arguments: Value<'a>) -> Result<(), String> {
        let arguments = self.sequence(arguments).filter(|arguments| arguments.len() <= ARGUMENTS);
        let arguments = arguments.ok_or("calls with what is no short tuple")?.to_vec();
        match (function, arguments.as_slice()) {
            (Global::OrderedDict, []) => self.create(Object::Dict(Vec::new())),
            (Global::Size | Global::RebuildParameter, [value, ..]) => self.push(*value),
            (Global::RebuildTensor, [storage, start, shape, strides, _, _, bits @ ..]) => {
                let view = self.view([*storage, *start, *shape, *strides], None, bits)?;
                self.create(Object::Tensor(Box::new(view)))
            }
            (
                Global::RebuildTensorOfDtype,
                [storage, start, shape, strides, _, _, Value::Global(Global::Dtype(dtype)), bits @ ..],
            ) => {
                let view = self.view([*storage, *start, *shape, *strides], Some(*dtype), bits)?;
                self.create(Object::Tensor(Box::new(view)))
            }
            (Global::RebuildWithAttributes, [Value::Global(inner), _, arguments, ..])
                if *inner != Global::RebuildWithAttributes =>
            {
                self.call(*inner, *arguments)
            }
            _ => Err(format!("calls {function:?} with {} arguments that do not fit", arguments.len())),
        }
    }

    /// A tensor from the arguments of PyTorch's functions, checked as far as it can be without the archive.
    fn view(
        &self,
        [storage, start, shape, strides]: [Value<'a>; 4],
        dtype: Option<Dtype>,
        bits: &[Value<'a>],
    ) -> Result<View<'a>, String> {
        let storage = match self.object(storage) {
            Some(Object::Storage(storage)) => *storage,
            _ => return Err("makes a tensor of what is no storage".to_owned()),
        };
        // Conjugated or negated without being computed: of complex tensors only.
        let plain = |bits: &Value<'a>| match self.object(*bits) {
            Some(Object::Dict(entries)) => entries.is_empty(),
            _ => *bits == Value::None,
        };
        if !bits.iter().all(plain) {
            return Err("makes a tensor with metadata, which weights do not have".to_owned());
        }
        let dtype = dtype.or(storage.dtype).ok_or("makes a tensor without a dtype")?;
        let (shape, strides) = (self.sizes(shape)?, self.sizes(strides)?);
        if shape.len() != strides.len() {
            return Err(format!("makes a tensor of {} sizes and {} strides", shape.len(), strides.len()));
        }
        Ok(View { storage, dtype, start: size(start)?, shape, strides })
    }

    fn sizes(&self, value: Value<'a>) -> Result<Vec<usize>, String> {
        let sizes = self.sequence(value).filter(|sizes| sizes.len() <= DIMENSIONS);
        let sizes =
            sizes.ok_or_else(|| format!("makes a tensor whose shape has not 0 to {DIMENSIONS} sizes"))?;
        sizes.iter().map(|value| size(*value)).collect()
    }

    /// `('storage', type, key, device, elements)`
    fn storage(&mut self) -> Result<(), String> {
        let id = self.pop()?;
        let storage = match self.sequence(id) {
            Some(
                [
                    Value::Text("storage"),
                    Value::Global(Global::StorageType(dtype)),
                    Value::Text(key),
                    _,
                    elements,
                ],
            ) => Storage { key, dtype: *dtype, elements: size(*elements)? },
            _ => return Err("refers to something that is no storage".to_owned()),
        };
        self.create(Object::Storage(storage))
    }

    /// Attributes of Python's (a state dict has versions of modules) are nothing that weights need.
    fn drop_attributes(&mut self) -> Result<(), String> {
        self.pop()?;
        match self.top_object()? {
            Object::Dict(_) | Object::Tensor(_) => Ok(()),
            _ => Err("sets attributes of what has none".to_owned()),
        }
    }

    fn top_object(&mut self) -> Result<&mut Object<'a>, String> {
        match self.top()? {
            Value::Object(index) => self.objects.get_mut(index).ok_or_else(too_little),
            _ => Err("changes what is no object".to_owned()),
        }
    }

    fn object(&self, value: Value<'a>) -> Option<&Object<'a>> {
        match value {
            Value::Object(index) => self.objects.get(index),
            _ => None,
        }
    }

    fn sequence(&self, value: Value<'a>) -> Option<&[Value<'a>]> {
        match self.object(value) {
            Some(Object::Sequence(values)) => Some(values),
            _ => None,
        }
    }
}

fn pairs<'a>(values: &[Value<'a>]) -> Result<Vec<(Value<'a>, Value<'a>)>, String> {
    let (pairs, rest) = values.as_chunks::<2>();
    if !rest.is_empty() {
        return Err("has a key without a value".to_owned());
    }
    Ok(pairs.iter().map(|[key, value]| (*key, *value)).collect())
}

fn size(value: Value<'_>) -> Result<usize, String> {
    match value {
        Value::Int(int) => usize::try_from(int).map_err(|_| format!("has {int} where a size belongs")),
        _ => Err("has something else where a size belongs".to_owned()),
    }
}

fn too_little() -> String {
    "takes more from its stack than it put there".to_owned()
}
