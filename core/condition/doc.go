// Package condition evaluates Kyverno's conditions on a JSON document under a budget.
//
// [Evaluate] decodes the document, resolves the {{ expressions }} of each condition's key and value, and compares the two
// by the condition's operator. Expressions are JMESPath with Kyverno's functions. They see the members of the document,
// and the whole of it as "element".
//
// # Budget
//
// Every node that is walked, every comparison and every byte that is made is paid for before it happens. An evaluation has
// [StepsAtLeast] steps and [StepsPerByte] more for each byte of its document, a step being a few nanoseconds of work; it may
// make [BytesPerByte] bytes for each byte of its document, and of a small one as many as of [SmallDocument] bytes. So both
// time and memory are bounded by the document's size, whatever the conditions and the document say. The request's end
// is looked at every few thousand steps, and a call of a library's function that could take longer than [maxCall] steps is
// refused. What is refused, or what the budget does not suffice for, is an error of the condition, and never a null that
// another condition could take for an answer.
//
// # Where it differs from Kyverno
//
// The oracle is Kyverno's evaluation of attestations, which resolves all expressions, writes the outcome as JSON and compares
// what it reads of that. These are the differences, each with a test:
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
//	a name twice in an object     the last one counts                       is an error
//	bytes that are not UTF-8      are replaced                              are an error
//	a byte order mark             is an error                               is passed over at the start of a document
//	very large things             take as long and as much as they take     are an error
package condition
