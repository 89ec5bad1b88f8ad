// Package condition evaluates Kyverno's conditions on a JSON document under a budget.
//
// [Evaluate] goes through these steps:
//
//  1. It decodes the document.
//  2. It resolves the {{ expressions }} in the key and value of a condition. Expressions are JMESPath with Kyverno's functions;
//     they see the members of the document, and the whole document as "element".
//  3. It compares key and value by the condition's operator.
//  4. At least one condition of any, if there are any, and each condition of all must hold. If not, the result's reason says
//     which condition failed, the value found and the value wanted.
//
// # Budget
//
// Every visited node, every comparison and every allocated byte is paid for before it happens. An evaluation has
// [StepsAtLeast] steps plus [StepsPerByte] for each byte of its document; a step is a few nanoseconds of work. It may allocate
// [BytesPerByte] bytes for each byte of its document, or of [SmallDocument] bytes where the document is smaller. So the
// document's size bounds time and memory, whatever conditions and document say. Every few thousand steps the evaluation checks
// whether the request has ended, and it refuses calls of library functions that could take more than maxCall steps. A
// refusal, or a spent budget, is an error of the condition. It is never a null, which could make another condition hold.
//
// # Where it differs from Kyverno
//
// It is compared with Kyverno's evaluation of attestations, which resolves all expressions, encodes the result as JSON, and
// compares the values that it decodes from that. These are the differences, each with a test:
//
//	subject                       Kyverno                                   here
//	what an expression gave       is searched for expressions again         is text, and refused inside a text if it holds {{
//	\{{ x }} in a key or value    is an expression after all                is the text {{ x }}
//	any                           an error in any condition fails it        ends with the first condition that is met
//	a whole number by itself      is compared in lists as 1.234567e+06      is compared by its digits, as those in lists are
//	* and ? of the document       help to meet Equals and In                stand for themselves there, and still deny in the Not ones
//	[a] NotIn "a"                 is met                                    is not met
//	AnyNotIn a negative range     is met by every number                    is met outside of the range
//	In with values not texts      panics                                    is an error that says so
//	$(references)                 reach into other conditions               are an error
//	{{ @ }} alone                 reads request.object                      is an error
//	NaN and infinity              compare as false or unequal               are an error where they arise
//	compare()                     gives what equals no number               gives a number
//	items()                       gives what few functions take             gives a list
//	sort_by()                     sorts the document's own list             sorts a copy
//	*, keys(), values()           in an order of chance                     in the order of names
//	x.*.f(@)                      calls f with null as well                 calls f with each member
//	random()                      gives chance                              is an error
//	is_external_url()             asks the network                          is an error
//	time_now(), time_since()      read the machine's clock                  read the clock that they are given
//	parse_yaml()                  follows aliases                           refuses anchors and aliases
//	durations over 292 years      become negative in arithmetic             are an error
//	a unit without a number       is a quantity, and zero                   is a text
//	round() to negative places    is an error about Go's formatting         is an error that says so
//	a name twice in an object     the last one counts                       is an error
//	bytes that are not UTF-8      are replaced                              are an error
//	a byte order mark             is an error                               is passed over at the start of a document
//	very large things             take as long and as much as they take     are an error
package condition
