// Package v1alpha1 takes the place of the package of this name of func's operator, whose module not every proxy has. It has no more
// than what func names: func asks a cluster for the operator's resource first, and where that is not defined it uses none of this.
package v1alpha1

import (
	"errors"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is what func looks for in a cluster.
var GroupVersion = schema.GroupVersion{Group: "functions.dev", Version: "v1alpha1"}

// AddToScheme adds the two types.
func AddToScheme(scheme *runtime.Scheme) error {
	if scheme == nil {
		return errors.New("no scheme")
	}
	scheme.AddKnownTypes(GroupVersion, &Function{}, &FunctionList{})
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}

// Function is the operator's resource.
type Function struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              FunctionSpec   `json:"spec"`
	Status            FunctionStatus `json:"status"`
}

// FunctionSpec says where a function comes from.
type FunctionSpec struct {
	Repository FunctionSpecRepository `json:"repository"`
	Registry   FunctionSpecRegistry   `json:"registry"`
}

// FunctionSpecRepository is the repository of the source.
type FunctionSpecRepository struct {
	URL    string `json:"url"`
	Branch string `json:"branch,omitempty"`
	Path   string `json:"path,omitempty"`
}

// FunctionSpecRegistry names the credentials of the registry.
type FunctionSpecRegistry struct {
	AuthSecretRef *corev1.LocalObjectReference `json:"authSecretRef,omitempty"`
}

// FunctionStatus names the function.
type FunctionStatus struct {
	Name string `json:"name,omitempty"`
}

// DeepCopyObject is part of runtime.Object.
func (f *Function) DeepCopyObject() runtime.Object {
	copied := *f
	copied.ObjectMeta = *f.ObjectMeta.DeepCopy()
	return &copied
}

// FunctionList is a list of them.
type FunctionList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []Function `json:"items"`
}

// DeepCopyObject is part of runtime.Object.
func (l *FunctionList) DeepCopyObject() runtime.Object {
	copied := *l
	copied.Items = append([]Function(nil), l.Items...)
	return &copied
}
